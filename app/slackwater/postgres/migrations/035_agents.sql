-- Agents that owners make: what runs with their name as `agent_name` are told. Null is what was not said.
create table slackwater.agents (
    owner       text not null,
    -- In lower case.
    name        text collate "C" not null,
    description text,
    model       text,
    tool_groups text[],
    -- Null: all. Empty: none.
    skills      text[],
    soul        text,
    version     bigint not null default 1,
    created_at  timestamptz not null default clock_timestamp(),
    updated_at  timestamptz not null default clock_timestamp(),
    primary key (owner, name)
);

-- What owners say of themselves to all of their agents.
create table slackwater.user_profiles (
    owner      text primary key,
    content    text not null,
    version    bigint not null default 1,
    updated_at timestamptz not null default clock_timestamp()
);
