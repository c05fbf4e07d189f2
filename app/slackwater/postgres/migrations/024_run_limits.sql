-- How many runs one owner may have at a time, and how many may wait. As all limits: null as in the settings, 0 no limit.
alter table slackwater.limits add column running integer check (running >= 0);
alter table slackwater.limits add column pending integer check (pending >= 0);
