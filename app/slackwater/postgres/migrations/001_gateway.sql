-- Everything that belongs to someone carries its owner.

create table slackwater.assistants (
    assistant_id uuid primary key,
    owner        text not null,
    graph_id     text not null,
    name         text not null,
    description  text,
    config       jsonb not null default '{}',
    context      jsonb not null default '{}',
    metadata     jsonb not null default '{}',
    version      integer not null default 1,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now()
);
create index assistants_owner on slackwater.assistants (owner, created_at desc);
create index assistants_graph on slackwater.assistants (graph_id);

create table slackwater.threads (
    thread_id        uuid primary key,
    owner            text not null,
    status           text not null default 'idle' check (status in ('idle', 'busy', 'interrupted', 'error')),
    metadata         jsonb not null default '{}',
    config           jsonb not null default '{}',
    "values"         jsonb,
    interrupts       jsonb not null default '{}',
    error            jsonb,
    -- Raised by every claim: orders the events of a thread and tells a stale writer from the owner.
    fence            bigint not null default 0,
    -- The thread of a stateless run: never listed, deleted with its run.
    hidden           boolean not null default false,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    state_updated_at timestamptz
);
create index threads_owner on slackwater.threads (owner, updated_at desc) where not hidden;
create index threads_metadata on slackwater.threads using gin (metadata jsonb_path_ops);

create table slackwater.runs (
    run_id             uuid primary key,
    seq                bigint generated always as identity,
    thread_id          uuid not null,
    owner              text not null,
    assistant_id       uuid not null,
    graph_id           text not null,
    -- 'run', or 'write': a short hold of the thread by a state update, which the same fence protects.
    kind               text not null default 'run' check (kind in ('run', 'write')),
    status             text not null default 'pending'
                       check (status in ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
    metadata           jsonb not null default '{}',
    kwargs             jsonb not null default '{}',
    multitask_strategy text not null default 'enqueue',
    -- 'delete' or 'keep', for runs that were started without a thread.
    on_completion      text,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    started_at         timestamptz,
    ended_at           timestamptz,

    -- The queue. At most one run of a thread is ready, and it is the one to start next.
    available_at       timestamptz not null default now(),
    ready              boolean not null default false,
    -- From the first claim to the terminal state, also while the run is shown as pending.
    holds_thread       boolean not null default false,

    -- Ownership
    worker             text,
    lease_until        timestamptz,
    fence              bigint not null default 0,
    claimed_at         timestamptz,

    -- What a later start must know
    attempt            integer not null default 0,
    handovers          integer not null default 0,
    -- Why the last attempt stopped: 'drained' at a boundary, 'cut' inside a superstep, 'lost' with its process.
    stopped            text check (stopped in ('drained', 'cut', 'lost')),
    reason             text,
    input_applied      boolean not null default false,
    base_checkpoint_id text,
    input_step         integer,
    last_checkpoint_id text,
    -- The no-progress guard: what had been reached when the last attempt stopped, and how often in a row.
    progress           text,
    stalls             integer not null default 0,

    -- Wishes of others; the first one wins.
    cancel_action      text check (cancel_action in ('interrupt', 'rollback')),
    cancel_reason      text,
    cancel_at          timestamptz,
    -- When the reader of an on_disconnect=cancel run went away; it has some time to return.
    reader_left_at     timestamptz,

    error              jsonb,
    -- The newest event's id when the run ended: what retention trimmed can be told from what never was.
    last_event         text,
    delete_at          timestamptz
);
create index runs_ready on slackwater.runs (available_at, seq) where ready;
create index runs_suspect on slackwater.runs (available_at, seq) where ready and stalls >= 2;
create index runs_ready_thread on slackwater.runs (thread_id) where ready;
create unique index runs_holds_thread on slackwater.runs (thread_id) where holds_thread;
create index runs_queue on slackwater.runs (thread_id, available_at, seq) where status = 'pending';
create index runs_thread on slackwater.runs (thread_id, created_at desc);
create index runs_lease on slackwater.runs (lease_until) where status = 'running';
create index runs_worker on slackwater.runs (worker) where status = 'running';
create index runs_delete on slackwater.runs (delete_at) where delete_at is not null;

-- Append-only. (fence, seq) is the event's id on the wire: ordered over the runs and attempts of a thread.
create table slackwater.run_events (
    run_id     uuid not null,
    fence      bigint not null,
    seq        integer not null,
    thread_id  uuid not null,
    event      text not null,
    data       text not null,
    created_at timestamptz not null default now(),
    primary key (run_id, fence, seq)
);
create index run_events_age on slackwater.run_events (created_at);
create index run_events_thread on slackwater.run_events (thread_id, fence, seq);

-- The pending writes that a checkpoint had before a run first wrote to it, for rollback.
create table slackwater.base_writes (
    run_id        uuid not null,
    thread_id     text not null,
    checkpoint_ns text not null,
    checkpoint_id text not null,
    writes        jsonb not null,
    primary key (run_id, checkpoint_ns, checkpoint_id)
);

-- `Idempotency-Key`: a second delivery of the same request finds the run of the first.
create table slackwater.idempotency_keys (
    owner      text not null,
    key        text not null,
    run_id     uuid not null,
    created_at timestamptz not null default now(),
    primary key (owner, key)
);
create index idempotency_keys_age on slackwater.idempotency_keys (created_at);
