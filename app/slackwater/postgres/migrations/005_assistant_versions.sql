-- Every version of an assistant as it was made. The assistant's own row is the version that is active.

alter table slackwater.assistants
    -- The highest version there has ever been: numbers are not given twice, also after an older version was made active.
    add column last_version integer not null default 1;
update slackwater.assistants set last_version = version;

create table slackwater.assistant_versions (
    assistant_id uuid not null references slackwater.assistants on delete cascade,
    version      integer not null,
    owner        text not null,
    graph_id     text not null,
    name         text not null,
    description  text,
    config       jsonb not null,
    context      jsonb not null,
    metadata     jsonb not null,
    created_at   timestamptz not null default clock_timestamp(),
    primary key (assistant_id, version)
);

-- Of those that were replaced before, nothing was kept.
insert into slackwater.assistant_versions
       (assistant_id, version, owner, graph_id, name, description, config, context, metadata, created_at)
select assistant_id, version, owner, graph_id, name, description, config, context, metadata, updated_at
  from slackwater.assistants;
