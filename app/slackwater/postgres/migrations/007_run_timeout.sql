-- How long processes have worked on a run, in its attempts before the present one: its time limit is for all of them.
alter table slackwater.runs add column worked_seconds double precision not null default 0;
