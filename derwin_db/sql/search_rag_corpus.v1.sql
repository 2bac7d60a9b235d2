-- What search compares is derived here, whoever writes the row: the signs of the embedding's numbers, and the words.
CREATE FUNCTION public.derwin_search_rag_corpus() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.bits := {{vector}}.binary_quantize(NEW.embedding);
    NEW.words := public.derwin_words(concat_ws(' ', NEW.problem, NEW.fix_summary));
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_search_row BEFORE INSERT OR UPDATE OF embedding, problem, fix_summary, bits, words ON public.rag_corpus
    FOR EACH ROW EXECUTE FUNCTION public.derwin_search_rag_corpus();
ALTER TABLE public.rag_corpus ENABLE ALWAYS TRIGGER derwin_search_row;
