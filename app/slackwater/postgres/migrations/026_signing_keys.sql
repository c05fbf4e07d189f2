-- Keys that sign the tokens that we give out. The newest one has no end. A rotation gives it one, so late that no token that it has
-- signed is refused, and adds the next, which signs only after every process can know it.
create table slackwater.signing_keys (
    kid         text primary key,
    -- 256 random bits in base64url; or, if `sealed_by` names the key that has encrypted them, a JWE.
    secret      text not null,
    sealed_by   text,
    created_at  timestamptz not null default clock_timestamp(),
    signs_from  timestamptz not null,
    valid_until timestamptz
);

-- However many processes find that there is no key, and make one.
create unique index signing_keys_newest on slackwater.signing_keys ((valid_until is null)) where valid_until is null;
