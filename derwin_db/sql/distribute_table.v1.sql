-- For a table that a later revision creates: it joins the others where they are distributed, and stays as it is elsewhere.
-- The look at the catalog of Citus stands alone: the statement is not planned where that catalog is not there.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus') THEN
        IF EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = 'public.projects'::pg_catalog.regclass) THEN
            PERFORM pg_catalog.create_distributed_table(
                'public.{{table}}'::pg_catalog.regclass, 'project_id', colocate_with => 'public.projects'
            );
        END IF;
    END IF;
END
$$;
