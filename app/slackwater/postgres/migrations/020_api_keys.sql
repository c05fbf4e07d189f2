-- Keys that are made, listed and revoked while the server runs. The key itself is never stored: it has 256 random bits, so its
-- plain hash gives nothing away.
create table slackwater.api_keys (
    key_id uuid primary key,
    owner text not null,
    prefix text not null,
    sha256 bytea not null unique,
    scopes text[] not null,
    note text,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
