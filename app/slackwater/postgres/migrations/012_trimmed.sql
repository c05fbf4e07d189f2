-- What has become of a run's events. For those who read all of them go at once: 'hidden'. They are deleted after that, a
-- bounded number at a time: 'gone' when none is left.
alter table slackwater.runs add column trimmed text check (trimmed in ('hidden', 'gone'));
