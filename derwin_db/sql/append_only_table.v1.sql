-- The row trigger guards rows; the statement trigger answers an owner under FORCE, who would see a silent DELETE 0.
CREATE TRIGGER derwin_append_only_row BEFORE UPDATE OR DELETE ON public.{{table}}
    FOR EACH ROW EXECUTE FUNCTION public.derwin_refuse_change();
CREATE TRIGGER derwin_append_only_statement BEFORE UPDATE OR DELETE ON public.{{table}}
    FOR EACH STATEMENT EXECUTE FUNCTION public.derwin_refuse_change();
CREATE TRIGGER derwin_append_only_truncate BEFORE TRUNCATE ON public.{{table}}
    FOR EACH STATEMENT EXECUTE FUNCTION public.derwin_refuse_change();
ALTER TABLE public.{{table}} ENABLE ALWAYS TRIGGER derwin_append_only_row;
ALTER TABLE public.{{table}} ENABLE ALWAYS TRIGGER derwin_append_only_statement;
ALTER TABLE public.{{table}} ENABLE ALWAYS TRIGGER derwin_append_only_truncate;
