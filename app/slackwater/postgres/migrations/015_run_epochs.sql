-- The epoch in which a run was claimed. A failover may forget what a claim has stored since, and not the claim itself: its
-- owner writes nothing more before it has looked whether its last acknowledged write is still there.
alter table slackwater.runs add column epoch integer not null default 0;
