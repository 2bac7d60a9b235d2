"""The checker of the built site sees what is wrong with it; `make docs` runs it on the site itself."""

from pathlib import Path

import pytest

from tests.docs.site import dead_ends


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<h1 id="top">Other</h1><a href="..">back</a>')
    (tmp_path / "index.html").write_text('<a href="other/#top">on</a><a href="https://example.org">away</a>')
    return tmp_path


class TestDeadEnds:
    def test_there_are_none(self, site: Path) -> None:
        assert list(dead_ends(site)) == []

    @pytest.mark.parametrize(
        ("tag", "said"),
        [
            ('<a href="nowhere/">x</a>', "index.html leads to nowhere/"),
            ('<a href="other/#bottom">x</a>', "index.html leads to other/#bottom"),
            ('<a href="#bottom">x</a>', "index.html leads to #bottom"),
            ('<img src="lost.png">', "index.html leads to lost.png"),
            ('<script src="https://cdn.example.org/x.js"></script>', "index.html loads https://cdn.example.org/x.js"),
            ('<link rel="stylesheet" href="//fonts.example.org/css">', "index.html loads //fonts.example.org/css"),
        ],
    )
    def test_one_is_named(self, site: Path, tag: str, said: str) -> None:
        page = site / "index.html"
        page.write_text(page.read_text() + tag)
        assert list(dead_ends(site)) == [said]
