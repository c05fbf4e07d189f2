-- concurrently
-- What a sweep looks for it finds without reading what it does not look for, however many runs, threads and events there are.
create index concurrently if not exists runs_ended on slackwater.runs (ended_at)
    where ended_at is not null and trimmed is null;
create index concurrently if not exists runs_trimmed on slackwater.runs (ended_at)
    where trimmed = 'hidden';
create index concurrently if not exists runs_reader_left on slackwater.runs (reader_left_at)
    where status in ('pending', 'running') and cancel_action is null and reader_left_at is not null;
create index concurrently if not exists threads_busy on slackwater.threads (thread_id)
    where status = 'busy';
create index concurrently if not exists run_events_states on slackwater.run_events (created_at)
    where event = 'state_update';
-- Retention goes by the ends of runs now: each event has one index less.
drop index concurrently if exists slackwater.run_events_age;
