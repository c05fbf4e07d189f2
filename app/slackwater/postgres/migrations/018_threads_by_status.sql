-- concurrently
-- The threads that wait for an answer, or have failed, are found without reading all of their owner's. Not the busy and the
-- idle ones: every run changes between those two, and would have one more index to write to.
create index concurrently if not exists threads_status on slackwater.threads (owner, status, updated_at desc)
    where status in ('interrupted', 'error') and not hidden;
