-- The revision is kept in public.derwin_alembic_version, which Alembic has made before. public.alembic_version is the
-- service's: what it holds of another chain stays, and nobody of ours reads it any more; an empty one goes.
GRANT SELECT ON public.derwin_alembic_version TO derwin_app, derwin_admin;
DO $$
BEGIN
    IF pg_catalog.to_regclass('public.alembic_version') IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM public.alembic_version) THEN
        REVOKE ALL ON public.alembic_version FROM derwin_app, derwin_admin;
    ELSE
        DROP TABLE public.alembic_version;
    END IF;
END
$$;
