-- Of every change a number that no other has: who comes back to a skill that was deleted and made anew sees that it is another.
create sequence slackwater.skill_versions;

-- The skills that owners have installed.
create table slackwater.skills (
    owner       text not null,
    name        text collate "C" not null,
    description text not null,
    license     text,
    -- SKILL.md, with its front matter.
    content     text not null,
    -- In bytes, its files included.
    size        bigint not null check (size >= 0),
    version     bigint not null default nextval('slackwater.skill_versions'),
    created_at  timestamptz not null default clock_timestamp(),
    updated_at  timestamptz not null default clock_timestamp(),
    primary key (owner, name)
);

-- What a skill has beside SKILL.md. Small, and read together: so it is here, and not in the store of blobs.
create table slackwater.skill_files (
    owner   text not null,
    name    text collate "C" not null,
    -- Relative to the folder of the skill.
    path    text collate "C" not null,
    content bytea not null,
    primary key (owner, name, path),
    foreign key (owner, name) references slackwater.skills on delete cascade
);

-- What was done to them. It outlives the skill, which can be restored from it.
create table slackwater.skill_history (
    entry_id     bigint generated always as identity primary key,
    owner        text not null,
    name         text collate "C" not null,
    action       text not null,
    author       text not null,
    thread_id    uuid,
    file_path    text not null,
    prev_content text,
    new_content  text,
    scanner      jsonb not null,
    at           timestamptz not null default clock_timestamp()
);
create index skill_history_of on slackwater.skill_history (owner, name, entry_id);

-- Which skills are switched on and off, public ones too: by their owners and, as the owner 'system', for everybody who has not said.
create table slackwater.skill_switches (
    owner   text not null,
    name    text collate "C" not null,
    enabled boolean not null,
    primary key (owner, name)
);
