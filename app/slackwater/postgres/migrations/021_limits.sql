-- What owners may have and do, where it is not what the settings say. Null: as in the settings; 0: no limit.
create table slackwater.limits (
    owner text primary key,
    requests_per_minute integer check (requests_per_minute >= 0),
    changed_at timestamptz not null default clock_timestamp()
);

-- A bucket of requests for each owner whose requests are limited, by the moment at which it is full again. Not logged: a commit
-- that touches nothing else waits for no disk, and after a crash all buckets are full.
create unlogged table slackwater.request_buckets (
    owner text primary key,
    full_at timestamptz not null
) with (fillfactor = 50);
