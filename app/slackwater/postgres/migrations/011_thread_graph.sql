-- What the state of a thread is read with after a run with these `kwargs`: its `configurable`, without what was said for that run
-- only, or is LangGraph's own.
create function slackwater.thread_config(kwargs jsonb) returns jsonb language sql immutable as $$
    select jsonb_build_object('configurable', coalesce((
        select jsonb_object_agg(c.key, c.value) from jsonb_each(kwargs #> '{config,configurable}') c
         where not starts_with(c.key, 'checkpoint') and not starts_with(c.key, '__') and c.key <> 'cron_id'
           and not coalesce(kwargs -> 'of_the_request' ? c.key, false)), '{}'))
$$;
