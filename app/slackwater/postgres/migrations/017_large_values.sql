-- one by one
-- Large values were compressed with pglz, which was most of what Postgres did for a state of 100 kB. lz4 takes a fraction of
-- that time and nearly as little room; a server that was built without it stores them as they are. What is there stays so.
create or replace function slackwater.store_large(whole regclass, part text) returns void language plpgsql as $$ begin
    execute format('alter table %s alter %I set compression lz4', whole, part); exception when feature_not_supported then
    execute format('alter table %s alter %I set storage external', whole, part); end $$;
select slackwater.store_large('slackwater.run_events', 'data');
select slackwater.store_large('slackwater.threads', 'values');
select slackwater.store_large('slackwater.runs', 'kwargs');
select slackwater.store_large('slackwater.base_writes', 'writes');
select slackwater.store_large('checkpoint_blobs', 'blob');
select slackwater.store_large('checkpoint_writes', 'blob');
select slackwater.store_large('checkpoints', 'checkpoint');
select slackwater.store_large('store', 'value');
drop function slackwater.store_large(regclass, text);
