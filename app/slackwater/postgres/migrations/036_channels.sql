-- Which thread a conversation of a channel is held on.
create table slackwater.channel_threads (
    channel         text not null,
    owner           text not null,
    -- As the channel names it.
    conversation_id text collate "C" not null,
    thread_id       uuid not null,
    created_at      timestamptz not null default clock_timestamp(),
    primary key (channel, owner, conversation_id)
);
create index channel_threads_thread on slackwater.channel_threads (thread_id);
create index channel_threads_owner on slackwater.channel_threads (owner);

-- What has come in by a channel. A row is written by the transaction that admits its run, so that whoever brings the same
-- once more, to whichever process, starts no second one.
create table slackwater.channel_deliveries (
    channel     text not null,
    owner       text not null,
    delivery_id text collate "C" not null,
    thread_id   uuid not null,
    run_id      uuid not null,
    -- Where a chat is to show the answer; null where a URL is told of it.
    place       jsonb,
    -- The row of slackwater.webhooks that says, before there is an answer, that one is being made.
    notice_id   uuid,
    -- What the chat calls the message by which it was said; the answer takes its place.
    message     text,
    -- The same of an answer that could not take its place, and is a message of its own: the notice goes after that.
    answer      text,
    received_at timestamptz not null default clock_timestamp(),
    primary key (channel, owner, delivery_id)
);
create index channel_deliveries_age on slackwater.channel_deliveries (received_at);
create index channel_deliveries_run on slackwater.channel_deliveries (run_id);
create index channel_deliveries_notice on slackwater.channel_deliveries (notice_id) where notice_id is not null;
create index channel_deliveries_owner on slackwater.channel_deliveries (owner);

create function slackwater.say_that_it_has_come() returns trigger language plpgsql as $$
begin
    insert into slackwater.webhooks (run_id, thread_id, owner, url, run)
    values (new.notice_id, new.thread_id, new.owner, 'channel:' || new.channel,
        jsonb_build_object('run_id', new.run_id, 'thread_id', new.thread_id, 'status', 'pending'));
    return null;
end $$;

create trigger channel_deliveries_say after insert on slackwater.channel_deliveries
    for each row when (new.notice_id is not null) execute function slackwater.say_that_it_has_come();

-- Who reads a chat does not see the thread: what its run waits for is told with its end.
create function slackwater.say_what_is_asked() returns trigger language plpgsql as $$
begin
    new.run = new.run || jsonb_build_object('interrupts', (
        select t.interrupts from slackwater.threads t where t.thread_id = new.thread_id));
    return new;
end $$;

create trigger webhooks_say_what_is_asked before insert on slackwater.webhooks
    for each row when (new.url like 'channel:%' and new.run ->> 'status' = 'success')
    execute function slackwater.say_what_is_asked();
