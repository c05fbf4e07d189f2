-- An asynchronous failover forgets what the lost server had acknowledged last: claims too, and the fences that they took.
-- Each promotion and each restore begins a timeline of its own, so a thread's fences leap with each: past all that its lost
-- claims can have used.

do $do$
declare
    timeline constant text := $$('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int$$;
    present integer;
begin
    -- Counted from now: however often this server was promoted before, its first fence is 1.
    begin
        execute 'select ' || timeline into present;
        execute format(
            'create function slackwater.epoch() returns integer language sql as $f$ select %s - %s $f$', timeline, present);
    exception when others then
        -- A service that has no timelines, or does not show them. Owners are told apart by their names all the same.
        create function slackwater.epoch() returns integer language sql as $f$ select 0 $f$;
    end;
end $do$;

-- The fence of a thread's next claim. Numbers of protocol v2 are below 2**53 for nine hundred leaps.
create function slackwater.next_fence(fence bigint, epoch integer) returns bigint language sql as $$
    select fence + 1 + 10000 * abs(slackwater.epoch() - epoch) $$;

alter table slackwater.threads
    -- In which the fence was taken.
    add column epoch integer not null default 0;
alter table slackwater.threads
    alter column epoch set default slackwater.epoch(),
    -- A thread that was forgotten may be made again, under its old id.
    alter column fence set default greatest(slackwater.epoch(), 0) * 10000;

-- Who has ended the run or handed it over last, and under which fence: sent again after an answer that was lost, it finds its
-- own work done.
alter table slackwater.runs
    add column settled_by    text,
    add column settled_fence bigint;

-- Left behind by runs that were cancelled while nobody worked on them, or ended by a guard.
delete from slackwater.base_writes b where not exists (
    select 1 from slackwater.runs r where r.run_id = b.run_id and r.status in ('pending', 'running'));
