-- How many crons one owner may have. As all limits: null as in the settings, 0 no limit.
alter table slackwater.limits add column crons integer check (crons >= 0);

-- Refuses the transaction unless the owner may have one more cron. Whoever makes some does so one after the other.
create function slackwater.require_room_for_cron(whose text, most integer) returns void language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('slackwater.crons of ' || whose, 0));
    -- Only a statement that begins after the lock was taken sees what whoever had it before has committed.
    if (select count(*) from (select 1 from slackwater.crons where owner = whose limit most) mine) >= most then
        raise exception using errcode = 'check_violation', constraint = 'crons_per_owner',
            message = 'the owner has as many crons as may be';
    end if;
end $$;
