-- What was said on a thread and is to be remembered of its owner, once nothing more is said for a while. A row goes when a model
-- has read it, in the statement that changes the memory.
create table slackwater.memory_updates (
    owner         text not null,
    thread_id     uuid not null,
    messages      jsonb not null,
    -- Since when it waits: who goes on talking puts it off, but not for ever.
    created_at    timestamptz not null default clock_timestamp(),
    due_at        timestamptz not null default clock_timestamp(),
    attempts      integer not null default 0,
    -- Who asks a model about it now, and until when nobody else may. Raised by every claim, and by whatever is said meanwhile.
    fence         integer not null default 0,
    claimed_until timestamptz,
    trouble       text,
    primary key (owner, thread_id)
);
create index memory_updates_due on slackwater.memory_updates (due_at);
