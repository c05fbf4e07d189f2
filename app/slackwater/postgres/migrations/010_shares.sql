-- Where the runs of an owner are limited, whoever admits or claims some does so one after the other.
create function slackwater.lock_owner(whose text) returns void language sql volatile as $$
    select pg_advisory_xact_lock(hashtextextended('slackwater.runs of ' || whose, 0))
$$;

-- How many more runs of the owner may be worked on, in all processes together.
create function slackwater.room_of(whose text, most integer) returns integer language plpgsql volatile as $$
begin
    perform slackwater.lock_owner(whose);
    -- Only a statement that begins after the lock was taken sees what whoever had it before has committed.
    return most - (select count(*) from (
        select 1 from slackwater.runs where owner = whose and status = 'running' and kind = 'run' limit most) running);
end $$;

-- Refuses the transaction if, with these new runs, more of the owner's wait than may.
create function slackwater.require_waiting_room(whose text, added uuid[], most integer) returns void
language plpgsql volatile as $$
begin
    perform slackwater.lock_owner(whose);
    if exists (select 1 from slackwater.runs where run_id = any(added) and status = 'pending')
        and (select count(*) from (
            select 1 from slackwater.runs where owner = whose and status = 'pending' and kind = 'run' limit most + 1
        ) waiting) > most
    then
        raise exception using errcode = 'check_violation', constraint = 'runs_pending_per_owner',
            message = 'more runs of the owner would wait than may';
    end if;
end $$;
