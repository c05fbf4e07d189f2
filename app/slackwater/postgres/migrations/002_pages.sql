-- Readers whose page of a stream has ended before their run has. A client asks after the page whether the run goes on,
-- and returns only then: so it is shown as running until he is back, or for ten seconds. A row of its own for each of
-- them: one who returns says nothing about the others, and the run's row is not touched.
create table slackwater.cut_readers (
    run_id uuid not null,
    reader uuid not null,
    cut_at timestamptz not null,
    primary key (run_id, reader)
);
create index cut_readers_age on slackwater.cut_readers (cut_at);
