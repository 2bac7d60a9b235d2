"""Diffs as lines with their numbers."""

import re

import pytest

from derwin_db.models import ProfileEvolutionLog
from derwin_db.studio.diffs import Line, diff_lines
from derwin_db.studio.profile import _change
from derwin_db.studio.rendering import Renderer
from derwin_db.studio.views import Views

DIFF = """\
--- a/order.py
+++ b/order.py
@@ -3,3 +3,4 @@
 total = 0
-- total
+-- rounded
+@@ -1 +1 @@
 return total
@@ -20 +21 @@
-a
+b
@@ -30 +30,0 @@
-c
"""


class TestLines:
    def test_have_their_numbers_in_the_old_and_the_new_text(self) -> None:
        assert diff_lines(DIFF) == [
            Line("file", "--- a/order.py"),
            Line("file", "+++ b/order.py"),
            Line("place", "@@ -3,3 +3,4 @@"),
            Line("same", "total = 0", 3, 3),
            Line("removed", "- total", 4, None),
            Line("added", "-- rounded", None, 4),
            Line("added", "@@ -1 +1 @@", None, 5),
            Line("same", "return total", 5, 6),
            Line("place", "@@ -20 +21 @@"),
            Line("removed", "a", 20, None),
            Line("added", "b", None, 21),
            Line("place", "@@ -30 +30,0 @@"),
            Line("removed", "c", 30, None),
        ]

    def test_of_a_text_that_is_no_diff_are_told_by_their_first_signs(self) -> None:
        expected = [Line("added", " a"), Line("removed", " b"), Line("place", "@ c"), Line("same", "d")]
        assert diff_lines("+ a\n- b\n@ c\nd") == expected

    def test_go_on_at_the_next_place_where_the_one_before_says_too_much(self) -> None:
        assert diff_lines("@@ -1,9 +1,9 @@\n-a\n+b\n@@ -20 +20 @@\n-c\n+d\n e") == [
            Line("place", "@@ -1,9 +1,9 @@"),
            Line("removed", "a", 1, None),
            Line("added", "b", None, 1),
            Line("place", "@@ -20 +20 @@"),
            Line("removed", "c", 20, None),
            Line("added", "d", None, 20),
            Line("file", " e"),
        ]

    def test_end_at_the_end_of_a_line_alone(self) -> None:
        assert diff_lines("@@ -1,2 +1,2 @@\r\n-a\fb\u2028c\r\n+d\n") == [
            Line("place", "@@ -1,2 +1,2 @@"),
            Line("removed", "a\fb\u2028c", 1, None),
            Line("added", "d", None, 1),
        ]
        assert diff_lines("+a\x85b\n") == [Line("added", "a\x85b")]

    @pytest.mark.parametrize("head", ["@@ -1,9000 +1 @@", "no diff"])
    def test_are_shown_up_to_5_000(self, head: str) -> None:
        whole = diff_lines(f"{head}\n" + "-a\n" * 4_999)
        assert (len(whole), whole[-1].kind) == (5_000, "removed")
        cut = diff_lines(f"{head}\n" + "-a\n" * 5_001)
        assert cut == [*whole, Line("cut", "Not shown here: 2 more. An export has all")]
        assert diff_lines(f"{head}\n" + "-a\n" * 500_000)[-1] == Line("cut", "Not shown here: 495,001 more. An export has all")

    def test_have_their_numbers_and_signs_on_a_page(self) -> None:
        template = Renderer("/t", Views())._templates.from_string("{% import 'parts.html' as parts %}{{ parts.diff(lines) }}")
        html = template.render(lines=diff_lines("@@ -3,2 +5,2 @@\n same\n-old\n+new"))
        rows = re.findall(r'<tr class="(\w+)">(.*?)</tr>', html)
        assert [(kind, re.findall(r"<td[^>]*>(.*?)</td>", cells)) for kind, cells in rows] == [
            ("place", ["@@ -3,2 +5,2 @@"]),
            ("same", ["3", "5", "", "same"]),
            ("removed", ["4", "", "\N{MINUS SIGN}", "old"]),
            ("added", ["", "6", "+", "new"]),
        ]


@pytest.mark.parametrize(("rows", "shown", "is_cut"), [(1, 6, False), (395, 400, False), (396, 400, True)])
def test_of_a_profile_up_to_400_lines_are_shown(rows: int, shown: int, is_cut: bool) -> None:
    """Beside the rows: where they are, and the four lines around them."""
    change = _change(ProfileEvolutionLog(), {}, {"summary": [""] * rows})
    assert change.diff is not None
    assert (len(change.diff), change.added, change.removed, change.is_cut) == (shown, shown - 1, 0, is_cut)
