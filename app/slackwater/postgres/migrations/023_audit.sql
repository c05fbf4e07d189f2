-- Who was refused, and who has done what cannot be undone. Rows are only added: by the transaction of what they tell of, or, for
-- refusals, one for each minute, status, caller and address, whose count grows.
create table slackwater.audit (
    audit_id bigint generated always as identity primary key,
    at       timestamptz not null default clock_timestamp(),
    action   text not null,
    -- Who has done it, as far as that is known, and how: 'api' or 'command'.
    actor    text,
    via      text not null,
    key_id   uuid,
    -- Whose it was or is, and its id.
    owner    text,
    subject  text,
    address  text,
    status   integer,
    detail   text,
    count    bigint not null default 1
);
create index audit_at on slackwater.audit (at, audit_id);
create index audit_owner on slackwater.audit (owner, at, audit_id);
create unique index audit_refusals on slackwater.audit (at, status, address, actor, key_id) nulls not distinct
    where action = 'request.refused';
