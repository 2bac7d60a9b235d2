"""Names of constraints and indexes."""

import pytest

from derwin_db.fields.table import MAX_NAME_LENGTH, index, name_of


class TestNames:
    def test_are_of_the_columns_without_their_order(self) -> None:
        made = [index("tickets", "created_at DESC", "title text_pattern_ops"), index("tickets", "title", unique=True)]
        assert [one.name for one in made] == ["ix_tickets_created_at_title", "uq_tickets_title"]

    def test_have_a_greatest_length(self) -> None:
        longest = name_of("ix", "t", ["project_id", "c" * (MAX_NAME_LENGTH - len("ix_t_"))])
        assert len(longest) == MAX_NAME_LENGTH
        with pytest.raises(ValueError, match=f"has more than {MAX_NAME_LENGTH} characters"):
            name_of("ix", "t", ["c" * (MAX_NAME_LENGTH - len("ix_t_") + 1)])
