-- The words of a text, in any language: what search by words compares. Lower case, without order or place. An identifier
-- counts as it is written (order_total.compute), by what punctuation separates, and by its humps (OrderTotal: order, total).
-- Nothing is stemmed or left out: common words weigh little by their frequency. Words of more than 64 characters, and what
-- follows 50,000, are not looked at. ASCII's punctuation separates; everything beyond ASCII belongs to a word.
-- As before, but that its literals say how they are read (E''): the server reads them once a session, under whatever
-- standard_conforming_strings is then, and nothing undoes that reading, so that SQL in one unit of work could have had the
-- words of other units on the same connection spoilt.
CREATE OR REPLACE FUNCTION public.derwin_words(given text) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := left(given, 50000);
    plain text := regexp_replace(written, E'[\\x01-\\x1f\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7f]', ' ', 'g');
    humps text := regexp_replace(plain, '([[:lower:][:digit:]])([[:upper:]])', E'\\1 \\2', 'g');
    found text[];
BEGIN
    humps := regexp_replace(humps, '([[:upper:]])([[:upper:]][[:lower:]])', E'\\1 \\2', 'g');
    found := string_to_array(lower(plain || ' ' || humps), ' ') || ARRAY(
        SELECT lower(match[1]) FROM regexp_matches(
            written,
            E'([^\\x01-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7f]+(?:[\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e]+[^\\x01-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7f]+)+)',
            'g'
        ) AS match
    );
    IF written ~ E'[^\\x01-\\x20]{65}' THEN
        found := ARRAY(SELECT word FROM unnest(found) AS word WHERE length(word) <= 64);
    END IF;
    RETURN array_to_tsvector(array_remove(found, ''));
END
$$;
REVOKE ALL ON FUNCTION public.derwin_words(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.derwin_words(text) TO derwin_app, derwin_admin, derwin_backfill;
