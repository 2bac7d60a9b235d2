-- The queue over all projects: which runs are open, by their ids. A trigger keeps it with every run that is written, so it holds
-- what qa_runs holds, in the same transaction. It stands in the schema `derwin`, which is closed to sessions: what they may learn
-- of it are ids of projects, and only from the functions below, for a token that takes the key of the seal.
CREATE TABLE derwin.open_runs (
    project uuid NOT NULL,
    run uuid NOT NULL,
    is_running boolean NOT NULL,
    since timestamptz NOT NULL,
    CONSTRAINT pk_open_runs PRIMARY KEY (project, run)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX ix_open_runs_queued ON derwin.open_runs (project) WHERE NOT is_running;
CREATE INDEX ix_open_runs_running ON derwin.open_runs (project) WHERE is_running;
-- without a policy: even who is granted it by mistake sees nothing
ALTER TABLE derwin.open_runs ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON derwin.open_runs FROM PUBLIC;
COMMENT ON TABLE derwin.open_runs IS 'Runs that are queued or running, of all projects: ids and the time of enqueuing or of the last heartbeat';

-- Runs as the owner, since nobody else may write there. The message says nothing but that there is something to do.
CREATE FUNCTION public.derwin_note_open_run() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was_open boolean := TG_OP <> 'INSERT' AND OLD.status IN ('QUEUED', 'RUNNING');
    is_open boolean := TG_OP <> 'DELETE' AND NEW.status IN ('QUEUED', 'RUNNING');
BEGIN
    IF was_open AND (NOT is_open OR (NEW.project_id, NEW.id) <> (OLD.project_id, OLD.id)) THEN
        DELETE FROM derwin.open_runs WHERE project = OLD.project_id AND run = OLD.id;
    END IF;
    IF is_open THEN
        INSERT INTO derwin.open_runs AS noted (project, run, is_running, since)
        VALUES (NEW.project_id, NEW.id, NEW.status = 'RUNNING', coalesce(NEW.heartbeat_at, NEW.created_at))
        ON CONFLICT (project, run) DO UPDATE SET is_running = EXCLUDED.is_running, since = EXCLUDED.since
        WHERE (noted.is_running, noted.since) <> (EXCLUDED.is_running, EXCLUDED.since);
        IF NEW.status = 'QUEUED' AND NOT (was_open AND OLD.status = 'QUEUED') THEN
            PERFORM pg_notify('derwin_runs', '');
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER derwin_note_open_run AFTER INSERT OR UPDATE OR DELETE ON public.qa_runs
    FOR EACH ROW EXECUTE FUNCTION public.derwin_note_open_run();
ALTER TABLE public.qa_runs ENABLE ALWAYS TRIGGER derwin_note_open_run;

-- Who asks over all projects has the key. Kinds of tokens: 6, good on one backend; 7, on any (behind a pooler). They are worth
-- nothing to derwin_open() and derwin_scope(), and those of these are worth nothing here; they end after five seconds, too.
CREATE FUNCTION public.derwin_check_asker(token text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    message bytea := convert_to(left(token, 53), 'UTF8') || CASE substr(token, 38, 1)
        WHEN '6' THEN int4send(pg_backend_pid())
        WHEN '7' THEN ''
    END;
    made numeric;
BEGIN
    IF NOT EXISTS (
        SELECT FROM derwin.scope_key AS key
        WHERE left(encode(sha256(key.outer_pad || sha256(key.inner_pad || message)), 'hex'), 48) = substr(token, 54)
            OR left(encode(sha256(key.former_outer_pad || sha256(key.former_inner_pad || message)), 'hex'), 48) = substr(token, 54)
    ) THEN
        RAISE 'the token is not sealed with the key of this database' USING ERRCODE = 'DW004';
    END IF;
    made := ('x0' || substr(token, 39, 15))::bit(64)::bigint;
    IF extract(epoch FROM now()) * 1000000 < made - 1000000
        OR extract(epoch FROM clock_timestamp()) * 1000000 > made + 5000000
    THEN
        RAISE 'the token has ended' USING ERRCODE = 'DW011';
    END IF;
END
$$;
COMMENT ON FUNCTION public.derwin_check_asker(text) IS 'Lets through who has the key; for the functions that ask over all projects';

-- From one project to the next through the index, so that the cost is that of the projects that are returned, however many others
-- there are, and however many runs one of them has. The circle begins behind `last` and ends with it.
CREATE FUNCTION public.derwin_waiting(token text, last uuid, most integer, at_once integer) RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place uuid := last;
    has_turned boolean := false;
    wanted integer := least(most, 1000);
BEGIN
    PERFORM public.derwin_check_asker(token);
    WHILE wanted > 0 LOOP
        SELECT project INTO place FROM derwin.open_runs
        WHERE NOT is_running AND project > place ORDER BY project LIMIT 1;
        EXIT WHEN has_turned AND (place IS NULL OR place > last);
        IF place IS NULL THEN
            has_turned := true;
            place := '00000000-0000-0000-0000-000000000000';
        ELSIF at_once IS NULL OR at_once > (
            SELECT count(*) FROM (
                SELECT FROM derwin.open_runs WHERE is_running AND project = place LIMIT at_once
            ) AS running
        ) THEN
            RETURN NEXT place;
            wanted := wanted - 1;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION public.derwin_waiting(text, uuid, integer, integer) IS
    'Projects with queued runs, round from the one behind the last; of those that run fewer than so many at once';

CREATE FUNCTION public.derwin_stalled(token text, older_than interval) RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM public.derwin_check_asker(token);
    RETURN QUERY SELECT DISTINCT project FROM derwin.open_runs
        WHERE is_running AND since < now() - older_than ORDER BY project;
END
$$;
COMMENT ON FUNCTION public.derwin_stalled(text, interval) IS 'Projects with running runs whose last heartbeat is older than this';
REVOKE ALL ON FUNCTION public.derwin_note_open_run(), public.derwin_check_asker(text),
    public.derwin_waiting(text, uuid, integer, integer), public.derwin_stalled(text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.derwin_waiting(text, uuid, integer, integer), public.derwin_stalled(text, interval)
    TO derwin_app;
