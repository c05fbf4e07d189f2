-- concurrently
-- What is done with a thread finds what it needs without reading all that has happened on it before.
-- Whether a thread is busy, and which of its runs comes next.
create index concurrently if not exists runs_open on slackwater.runs (thread_id, available_at, seq)
    where status in ('pending', 'running');
drop index concurrently if exists slackwater.runs_queue;
-- What a rollback takes away: there is nothing in it but runs that are about to go.
create index concurrently if not exists runs_rolled_back on slackwater.runs (thread_id) where cancel_action = 'rollback';
-- Which run was worked on last, and which ones since.
create index concurrently if not exists runs_fence on slackwater.runs (thread_id, fence);
-- The runs that go on with a task of A2A.
create index concurrently if not exists runs_a2a_task on slackwater.runs (thread_id, (metadata ->> 'a2a_task'))
    where metadata ? 'a2a_task';
-- A thread's newest checkpoint is its root graph's, which the primary key finds, or one in some namespace.
create index concurrently if not exists checkpoints_nested on checkpoints (thread_id, checkpoint_id)
    where checkpoint_ns <> '';
create index concurrently if not exists checkpoint_writes_nested on checkpoint_writes (thread_id, checkpoint_id)
    where checkpoint_ns <> '';
