"""The diagram is that of the tables. That the page shows it is looked at with the other pages: tests/docs/test_reference.py."""

from sqlmodel import SQLModel

from derwin_db import sql
from derwin_db.deploy.erd import diagram


class TestDiagram:
    def test_every_table_and_every_foreign_key_is_in_it(self) -> None:
        lines = diagram().splitlines()
        assert {line.split()[0] for line in lines if line.endswith("{")} == {"projects", *sql.PROJECT_TABLES}
        tables = [SQLModel.metadata.tables[f"public.{name}"] for name in ("projects", *sql.PROJECT_TABLES)]
        foreign_keys = sum(len(table.foreign_key_constraints) for table in tables)
        assert sum("||" in line for line in lines) == foreign_keys >= 22
