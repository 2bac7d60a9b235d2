-- Fence 2 for {{table}}: nothing but the rows of the transaction's project, for reads and writes. The restrictive policy
-- holds beside any permissive one that somebody adds later. The subquery makes the scope be computed once a statement.
ALTER TABLE public.{{table}} ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.{{table}} FORCE ROW LEVEL SECURITY;
CREATE POLICY derwin_app_rows ON public.{{table}} AS PERMISSIVE FOR ALL TO derwin_app USING (true) WITH CHECK (true);
CREATE POLICY derwin_scope ON public.{{table}} AS RESTRICTIVE FOR ALL TO derwin_app
    USING (project_id = (SELECT public.derwin_scope()))
    WITH CHECK (project_id = (SELECT public.derwin_scope()));
