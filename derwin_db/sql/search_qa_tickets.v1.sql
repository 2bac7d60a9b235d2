-- The words that search compares are derived here, whoever writes the row.
CREATE FUNCTION public.derwin_search_qa_tickets() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    steps text := CASE WHEN jsonb_typeof(NEW.steps_to_reproduce) = 'array'
        THEN (SELECT string_agg(step, ' ') FROM jsonb_array_elements_text(NEW.steps_to_reproduce) AS step) END;
BEGIN
    NEW.words := public.derwin_words(
        concat_ws(' ', NEW.title, NEW.external_ref, NEW.description, NEW.expected, NEW.actual, steps)
    );
    RETURN NEW;
END
$$;
CREATE TRIGGER derwin_search_row
    BEFORE INSERT OR UPDATE OF title, external_ref, description, expected, actual, steps_to_reproduce, words ON public.qa_tickets
    FOR EACH ROW EXECUTE FUNCTION public.derwin_search_qa_tickets();
ALTER TABLE public.qa_tickets ENABLE ALWAYS TRIGGER derwin_search_row;
