-- Which MCP servers agents have tools of, for everybody: one row, or none.
create table slackwater.mcp_config (
    one        boolean primary key default true check (one),
    -- JSON, in pieces: each is encrypted by the key that `sealed_by` names, or by none.
    document   text[] not null,
    sealed_by  text,
    version    bigint not null default 1,
    updated_at timestamptz not null default clock_timestamp()
);
