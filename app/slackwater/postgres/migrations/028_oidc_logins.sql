-- Logins that have come back from an OpenID Connect provider: each comes back once. What is remembered of one until then is in a signed
-- cookie, so that beginning logins costs no row; `state` is secret until it is used, and only its hash is here.
create table slackwater.oidc_logins (
    state_sha256 bytea primary key,
    came_back_at timestamptz not null default clock_timestamp()
);
create index oidc_logins_came_back_at on slackwater.oidc_logins (came_back_at);
