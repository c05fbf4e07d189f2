-- What users say of runs, and of messages in them: one row for each user, run and message, or the run as a whole.
create table slackwater.feedback (
    feedback_id uuid primary key,
    run_id      uuid not null references slackwater.runs on delete cascade,
    thread_id   uuid not null,
    owner       text not null,
    message_id  text,
    rating      integer not null check (rating in (-1, 1)),
    comment     text,
    created_at  timestamptz not null default clock_timestamp()
);
create unique index feedback_once on slackwater.feedback (run_id, owner, message_id) nulls not distinct;
create index feedback_owner on slackwater.feedback (owner);
