-- Projects whose past is being written: an import, or the history of a demo. The admin door says which, for a day at the most;
-- for all others the stamps below are the database's. A unit of work can't write here.
CREATE TABLE derwin.restoring (
    id uuid PRIMARY KEY{{reference}},
    until timestamptz NOT NULL DEFAULT now() + INTERVAL '1 day' CHECK (isfinite(until))
);
REVOKE ALL ON derwin.restoring FROM PUBLIC;
GRANT SELECT, INSERT, DELETE ON derwin.restoring TO derwin_admin;
COMMENT ON TABLE derwin.restoring IS 'Projects whose rows may be written with times of the past';

CREATE FUNCTION public.derwin_is_restoring(project uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM derwin.restoring WHERE id = project AND until > now())
$$;
COMMENT ON FUNCTION public.derwin_is_restoring(uuid) IS 'Whether the past of this project is being written';
GRANT EXECUTE ON FUNCTION public.derwin_is_restoring(uuid) TO derwin_app;
