-- What administrators have laid over the key `gateway` of langgraph.json: one row. Version 0: nothing yet.
create table slackwater.configuration (
    only_one   boolean primary key default true check (only_one),
    version    bigint not null default 0,
    value      jsonb not null default '{}',
    changed_at timestamptz not null default clock_timestamp()
);
insert into slackwater.configuration default values;

-- The versions that processes could not use, and why. They go with the next change.
create table slackwater.configuration_troubles (
    version   bigint not null,
    problem   text not null,
    processes bigint not null default 1,
    -- The last one to say so.
    process   text not null,
    said_at   timestamptz not null default clock_timestamp(),
    primary key (version, problem)
);
