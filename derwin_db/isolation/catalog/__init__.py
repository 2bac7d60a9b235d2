"""What the catalog of a fenced database says, compared with what this package makes: each function names what differs.

They run with any login, while search_path is pg_catalog: the catalog is readable for all. Nothing is changed. Findings are
names and sentences without values.
"""
