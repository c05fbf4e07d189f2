-- How many streams one owner may have open. As all limits: null as in the settings, 0 no limit.
alter table slackwater.limits add column streams integer check (streams >= 0);

-- The open streams of an owner whose streams are limited: `{"stream id": seconds since the epoch}`, the moment until which its
-- process has said that it is open. One row for each owner, so that whoever opens one decides on the newest version of them all.
-- Not logged: after a crash of the database, readers have to come back anyway.
create unlogged table slackwater.open_streams (
    owner text primary key,
    streams jsonb not null,
    changed_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
