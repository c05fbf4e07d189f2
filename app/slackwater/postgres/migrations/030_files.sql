-- What the store of blobs has, or may have: a row is there before the first byte, and goes after the last one. So nothing in the store
-- is ever without a row, and the sweep finds all that is to be deleted.
create table slackwater.blobs (
    -- Used once. It begins with a fingerprint of the owner and thread that it was made for.
    key text primary key,
    -- staged: being written. live: a file has it. dead: no file has it any more. abandoned: it was not written in time.
    state text not null default 'staged' check (state in ('staged', 'live', 'dead', 'abandoned')),
    -- In bytes: what it is to have while it is staged, if that is known.
    size bigint not null default 0 check (size >= 0),
    -- Until when somebody outside may still write it, by a URL that was given out. Nothing is swept before.
    writable_until timestamptz,
    changed_at timestamptz not null default clock_timestamp()
);
create index blobs_to_sweep on slackwater.blobs (state, changed_at) where state <> 'live';

-- Files of a thread. They may be there before their thread is: so each says whose it is.
create table slackwater.files (
    owner text not null,
    thread_id uuid not null,
    -- Relative to the folder of the thread: uploads/a.txt, outputs/report.html, workspace/notes/b.md
    path text collate "C" not null check (path ~ '^(uploads|outputs|workspace)/'),
    blob text not null unique references slackwater.blobs (key),
    size bigint not null check (size >= 0),
    -- In hex; null for what was uploaded by a URL of the store.
    sha256 text,
    -- The path of the document that this is the Markdown of: it goes with it.
    made_from text,
    created_at timestamptz not null default clock_timestamp(),
    modified_at timestamptz not null default clock_timestamp(),
    primary key (owner, thread_id, path)
);
create index files_thread on slackwater.files (thread_id);

-- However a file goes, or gets another blob, and with it its thread or owner: in the same transaction its blob is dead.
create function slackwater.bury_blobs() returns trigger language plpgsql as $$
begin
    update slackwater.blobs b set state = 'dead', changed_at = clock_timestamp()
    from gone where b.key = gone.blob and not exists (select from slackwater.files f where f.blob = gone.blob);
    return null;
end $$;
create trigger files_deleted after delete on slackwater.files
    referencing old table as gone for each statement execute function slackwater.bury_blobs();
create trigger files_replaced after update on slackwater.files
    referencing old table as gone for each statement execute function slackwater.bury_blobs();

-- How many bytes of files an owner may have. As all limits: null as in the settings, 0 no limit.
alter table slackwater.limits add column file_bytes bigint check (file_bytes >= 0);
