-- Whom the runs of a cron act for, in a project with an `auth` of its own: the user who has made or changed it last.
alter table slackwater.crons add column auth_user jsonb;
