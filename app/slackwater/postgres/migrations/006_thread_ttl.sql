-- How long a thread may be idle. Whatever happens on it moves `updated_at`, and with it the end.

alter table slackwater.threads
    add column ttl_minutes  double precision,
    -- 'delete' the thread, or 'keep_latest': all but its newest checkpoint goes.
    add column ttl_strategy text check (ttl_strategy in ('delete', 'keep_latest')),
    -- When only the newest checkpoint was kept: nothing is left to do until something happens again.
    add column swept_at     timestamptz;

-- In UTC, as only that can be indexed: an interval added to a time with a zone may depend on the zone.
create index threads_ttl on slackwater.threads (((updated_at at time zone 'UTC') + ttl_minutes * interval '1 minute'))
    where ttl_minutes is not null and (swept_at is null or swept_at < updated_at);

-- What is done at intervals, by one of all processes.
create table slackwater.rounds (
    name     text primary key,
    begun_at timestamptz not null
);
insert into slackwater.rounds values ('thread_ttl', '-infinity');
