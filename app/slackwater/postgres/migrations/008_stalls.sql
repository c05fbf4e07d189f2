-- The run that was blocking the event loop of the process when this run's lease was last renewed: what comes of that is
-- not this run's fault, unless it was itself.
alter table slackwater.runs add column stalled_by uuid;
