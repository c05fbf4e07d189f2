-- concurrently
-- The runs of a thread that did not succeed are found without reading all that did. Not those: nearly every run does, and
-- would have one more index to write to.
create index concurrently if not exists runs_status on slackwater.runs (thread_id, status, created_at desc)
    where status in ('error', 'timeout', 'interrupted');
