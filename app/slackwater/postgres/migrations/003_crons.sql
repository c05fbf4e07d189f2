create table slackwater.crons (
    cron_id          uuid primary key,
    owner            text not null,
    -- Whoever deletes an assistant or a thread deletes its crons, in the same transaction and in this lock order.
    assistant_id     uuid not null references slackwater.assistants on delete cascade,
    thread_id        uuid references slackwater.threads on delete cascade,
    schedule         text not null,
    timezone         text,
    end_time         timestamptz,
    payload          jsonb not null default '{}',
    metadata         jsonb not null default '{}',
    -- 'delete' or 'keep': what becomes of the thread of each run, for crons without a thread.
    on_run_completed text check (on_run_completed in ('delete', 'keep')),
    enabled          boolean not null default true,
    -- Null: there is none before the end.
    next_run_date    timestamptz,
    -- Raised by every change: who has read an older one changes, and starts, nothing.
    revision         bigint not null default 1,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now()
);
create index crons_due on slackwater.crons (next_run_date) where enabled;
create index crons_owner on slackwater.crons (owner, created_at desc);
create index crons_assistant on slackwater.crons (assistant_id);
create index crons_thread on slackwater.crons (thread_id) where thread_id is not null;
