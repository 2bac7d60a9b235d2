-- The sealed scope. A unit of work opens with derwin_open(token), token = <project>.<mac of project and backend pid>,
-- which only a holder of the key can make. It stores <project>.<mac of project, pid and transaction start> as the scope:
-- that value is readable in the session, and worth nothing in any other transaction.
-- Both run as the owner: pg_temp stands last in their search_path, or a temporary type that is called uuid would run its
-- CHECK as the owner.
CREATE FUNCTION public.derwin_open(token text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    project text := left(token, 36);
    message bytea := convert_to(project, 'UTF8') || int4send(pg_backend_pid());
    inner_block bytea;
    outer_block bytea;
BEGIN
    SELECT inner_pad, outer_pad INTO inner_block, outer_block FROM derwin.scope_key;
    IF token IS NULL OR encode(sha256(outer_block || sha256(inner_block || message)), 'hex') IS DISTINCT FROM substr(token, 38)
    THEN
        RAISE 'the project scope is not sealed with the key of this database' USING ERRCODE = 'DW004';
    END IF;
    IF NOT EXISTS (SELECT FROM public.projects WHERE id = project::uuid) THEN
        RAISE 'no such project' USING ERRCODE = 'DW003';
    END IF;
    message := message || timestamptz_send(now());
    PERFORM set_config(
        'derwin.project_id',
        project || '.' || encode(sha256(outer_block || sha256(inner_block || message)), 'hex'),
        true
    );
END
$$;
COMMENT ON FUNCTION public.derwin_open(text) IS 'Opens the transaction for one project; the token needs the key';

CREATE FUNCTION public.derwin_scope() RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sealed text := current_setting('derwin.project_id', true);
    project text := left(sealed, 36);
    inner_block bytea;
    outer_block bytea;
BEGIN
    IF sealed IS NULL OR sealed = '' THEN
        RETURN NULL;
    END IF;
    SELECT inner_pad, outer_pad INTO inner_block, outer_block FROM derwin.scope_key;
    IF encode(sha256(outer_block || sha256(
           inner_block || convert_to(project, 'UTF8') || int4send(pg_backend_pid()) || timestamptz_send(now())
       )), 'hex') = substr(sealed, 38) THEN
        RETURN project::uuid;
    END IF;
    RAISE 'the project scope of this transaction is forged' USING ERRCODE = '42501';
END
$$;
COMMENT ON FUNCTION public.derwin_scope() IS 'The project of this transaction; NULL without one, an error for a forged one';

GRANT EXECUTE ON FUNCTION public.derwin_open(text), public.derwin_scope() TO derwin_app;
