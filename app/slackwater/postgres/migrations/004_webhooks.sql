-- What is to be told of the end of a run, and to whom. A row is written by the transaction that ends the run, and goes when
-- its receiver has taken it.
create table slackwater.webhooks (
    -- Of which there is one delivery at most, so this is its id, too.
    run_id        uuid primary key,
    thread_id     uuid not null,
    owner         text not null,
    url           text not null,
    -- The run as it has ended: it may be deleted before it can be told of.
    run           jsonb not null,
    "values"      jsonb,
    created_at    timestamptz not null default clock_timestamp(),
    due_at        timestamptz not null default clock_timestamp(),
    attempts      integer not null default 0,
    -- Who sends it now, and until when nobody else may. Raised by every claim.
    fence         integer not null default 0,
    claimed_until timestamptz,
    trouble       text,
    given_up_at   timestamptz
);
create index webhooks_due on slackwater.webhooks (due_at) where given_up_at is null;
create index webhooks_given_up on slackwater.webhooks (given_up_at) where given_up_at is not null;

create function slackwater.tell_of_end() returns trigger language plpgsql as $$
begin
    insert into slackwater.webhooks (run_id, thread_id, owner, url, run, "values")
    values (
        new.run_id, new.thread_id, new.owner, new.kwargs ->> 'webhook',
        jsonb_build_object(
            'run_id', new.run_id, 'thread_id', new.thread_id, 'assistant_id', new.assistant_id,
            'metadata', new.metadata, 'kwargs', new.kwargs, 'multitask_strategy', new.multitask_strategy,
            'status', new.status, 'cancel_action', new.cancel_action, 'error', new.error,
            'created_at', new.created_at, 'updated_at', new.updated_at,
            'started_at', new.started_at, 'ended_at', new.ended_at),
        case when new.on_completion is distinct from 'delete' then (
            select t."values" from slackwater.threads t where t.thread_id = new.thread_id) end)
    on conflict (run_id) do nothing;
    return null;
end $$;

-- A trigger, as a run is ended by several statements, and none of them may forget it. Deferred: the thread shows the run's
-- values only when the transaction is about to commit.
create constraint trigger webhooks_tell after update of status on slackwater.runs
    deferrable initially deferred for each row
    when (old.status in ('pending', 'running') and new.status in ('success', 'error', 'timeout', 'interrupted')
        and new.kwargs ->> 'webhook' is not null)
    execute function slackwater.tell_of_end();
