-- People who log in. An address is stored in lower case, so that each belongs to one account whatever its letters' case.
create table slackwater.users (
    user_id uuid primary key,
    -- 'account:' and the id: what their threads and runs say.
    owner text not null unique,
    email text not null unique,
    -- Argon2id, or a hash of the system that the account comes from. Null: they log in elsewhere.
    password text,
    role text not null default 'user' check (role in ('admin', 'user')),
    -- Whoever has a password that somebody else has chosen is asked for one of their own.
    needs_setup boolean not null default false,
    -- Grows with each change of the password, and when the account is disabled: sessions of before are over.
    token_version integer not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    last_login_at timestamptz,
    disabled_at timestamptz
);
create index users_admins on slackwater.users (user_id) where role = 'admin';

-- Who somebody is to a provider of identities.
create table slackwater.external_identities (
    provider text not null,
    subject text not null,
    user_id uuid not null references slackwater.users on delete cascade,
    created_at timestamptz not null default clock_timestamp(),
    primary key (provider, subject)
);
create index external_identities_user on slackwater.external_identities (user_id);

-- One for each login that has not been ended.
create table slackwater.sessions (
    session_id uuid primary key,
    user_id uuid not null references slackwater.users on delete cascade,
    token_version integer not null,
    address text not null,
    device text,
    created_at timestamptz not null default clock_timestamp(),
    last_used_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);
create index sessions_user on slackwater.sessions (user_id, session_id);
create index sessions_expiry on slackwater.sessions (expires_at);

-- How often somebody has tried in a row, by hashes: people type passwords where their address belongs. A row says nothing any
-- more once its time has come.
create table slackwater.login_attempts (
    kind text not null,
    key bytea not null,
    attempts integer not null,
    until timestamptz not null,
    primary key (kind, key)
);
create index login_attempts_until on slackwater.login_attempts (until);

-- Links by which the first administrator may be made, as hashes of their tokens. Gone when there is one.
create table slackwater.setup_tokens (
    sha256 bytea primary key,
    created_at timestamptz not null default clock_timestamp()
);
