-- concurrently
-- Claims are shared out per owner: who comes next in the index, and what is ready of one.
create index concurrently if not exists runs_ready_owner on slackwater.runs (owner, available_at, seq) where ready;
create index concurrently if not exists webhooks_due_owner on slackwater.webhooks (owner, due_at)
    where given_up_at is null;
create index concurrently if not exists crons_due_owner on slackwater.crons (owner, next_run_date) where enabled;
-- How many runs of an owner wait, and how many are worked on.
create index concurrently if not exists runs_active on slackwater.runs (owner, status)
    where status in ('pending', 'running');
