-- What was said in each run, for pages: one row for each message, and for each thing worth telling of a run. Rows are only added.
-- `seq` grows within a thread: it is made of the fence of the attempt that has stored the row, and of its place there.
create table slackwater.messages (
    thread_id  uuid not null,
    seq        bigint not null,
    run_id     uuid not null,
    event_type text not null,
    category   text not null,
    content    jsonb not null,
    metadata   jsonb not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (thread_id, seq)
);
create index messages_run on slackwater.messages (run_id, seq);
-- Rows come in the order of time: a small index finds the old ones.
create index messages_age on slackwater.messages using brin (created_at) with (pages_per_range = 16);

-- The tokens of each call of a model. A call belongs to a task of the graph: what was cut and runs again calls again.
create table slackwater.token_usage (
    run_id           uuid not null,
    call_id          uuid not null,
    thread_id        uuid not null,
    owner            text not null,
    model            text not null,
    caller           text not null,
    input_tokens     bigint not null,
    output_tokens    bigint not null,
    total_tokens     bigint not null,
    cached_tokens    bigint not null,
    reasoning_tokens bigint not null,
    repeated         boolean not null,
    task             text not null,
    place            integer not null,
    day              date not null default (clock_timestamp() at time zone 'utc')::date,
    created_at       timestamptz not null default clock_timestamp(),
    primary key (run_id, call_id)
);
create index token_usage_thread on slackwater.token_usage (thread_id);
create index token_usage_owner on slackwater.token_usage (owner, day);
