-- What search compares is derived here, whoever writes the row: the signs of the embedding's numbers, and the words. As before,
-- but that pgvector's function is kept as what it is, and not by its name: it is found in whatever schema pgvector moves to.
CREATE FUNCTION public.derwin_signs(given {{vector}}.vector) RETURNS bit
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
RETURN {{vector}}.binary_quantize(given);
REVOKE ALL ON FUNCTION public.derwin_signs({{vector}}.vector) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.derwin_signs({{vector}}.vector) TO derwin_app, derwin_admin, derwin_backfill;
CREATE OR REPLACE FUNCTION public.derwin_search_rag_corpus() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.bits := public.derwin_signs(NEW.embedding);
    NEW.words := public.derwin_words(concat_ws(' ', NEW.problem, NEW.fix_summary));
    RETURN NEW;
END
$$;
