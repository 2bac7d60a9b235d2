"""The door, over real sockets: token, names, headers."""

import asyncio
import http.client
import re

import httpx
import pytest

from derwin_db.studio.door import HEADERS, TOKEN_BYTES, Door, is_loopback, new_token
from tests.studio.serving import Studio


def ask(studio: Studio, path: str, *, host: str | None = None, method: str = "GET") -> http.client.HTTPResponse:
    """A request with the `Host` that is given."""
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


class TestToken:
    def test_is_long_and_new_each_time(self, studio: Studio) -> None:
        assert TOKEN_BYTES >= 32
        assert len({new_token() for _ in range(100)}) == 100
        assert re.fullmatch(r"[\w-]{43}", studio.token)

    @pytest.mark.parametrize("path", ["", "/", "/p/lifeline/", "/static/studio.css", "/favicon.ico", "//", "/%00", "/?token="])
    def test_without_it_nothing_is_there(self, studio: Studio, path: str) -> None:
        response = ask(studio, path or "/", host=f"127.0.0.1:{studio.port}")
        assert response.status == 404
        assert b"lifeline" not in response.body  # type: ignore[attr-defined]

    @pytest.mark.parametrize("change", ["other", "shorter", "longer", "upper"])
    def test_a_wrong_one_is_like_none(self, studio: Studio, change: str) -> None:
        token = studio.token
        wrong = {"other": new_token(), "shorter": token[:-1], "longer": f"{token}x", "upper": token.swapcase()}[change]
        answers = [ask(studio, f"/{first}/p/lifeline/", host="localhost") for first in (wrong, "none")]
        assert [answer.status for answer in answers] == [404, 404]
        assert answers[0].body == answers[1].body  # type: ignore[attr-defined]

    async def test_is_not_told_to_whom_a_page_links(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("p/lifeline/")).headers["referrer-policy"] == "no-referrer"

    async def test_no_cookie_is_set(self, client: httpx.AsyncClient) -> None:
        assert "set-cookie" not in (await client.get("p/lifeline/")).headers


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:{port}", "localhost", "LOCALHOST:80", "[::1]:{port}", "[::1]"])
    def test_names_of_this_machine_are_let_in(self, studio: Studio, host: str) -> None:
        assert ask(studio, f"/{studio.token}/", host=host.format(port=studio.port)).status == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:{port}",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example#localhost",
            "localhost@evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::1",
            "[::1]evil",
            "",
        ],
    )
    def test_any_other_name_is_refused(self, studio: Studio, host: str) -> None:
        response = ask(studio, f"/{studio.token}/", host=host.format(port=studio.port))
        assert response.status == 403
        assert b"Projects" not in response.body  # type: ignore[attr-defined]

    def test_no_name_is_refused(self, studio: Studio) -> None:
        assert ask(studio, f"/{studio.token}/").status in (400, 403)

    async def test_two_names_are_refused(self) -> None:
        assert await through(Door(never, token="t"), [(b"host", b"localhost"), (b"host", b"evil.example")]) == 403

    async def test_beyond_loopback_an_address_is_a_name_and_a_strangers_name_is_not(self) -> None:
        door = Door(never, token="t", hosts=["localhost", "box"], takes_addresses=True)
        names = {"192.168.0.7:8001": 404, "[fe80::1]:80": 404, "box": 404, "evil.example": 403, "192.168.0.7.evil.example": 403}
        assert {name: await through(door, [(b"host", name.encode())]) for name in names} == names

    async def test_a_name_of_this_machine_may_have_capitals(self) -> None:
        assert await through(Door(never, token="t", hosts=["Box"]), [(b"host", b"bOX")]) == 404

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("127.0.0.1", True),
            ("127.8.8.8", True),
            ("::1", True),
            ("localhost", True),
            ("0.0.0.0", False),
            ("::", False),
            ("192.168.0.7", False),
            ("localhost.example", False),
        ],
    )
    def test_what_is_loopback(self, host: str, *, expected: bool) -> None:
        assert is_loopback(host) is expected


class TestHeaders:
    @pytest.mark.parametrize("path", ["", "p/lifeline/", "p/nothing/", "nothing", "static/studio.css", "p/lifeline/?days=1"])
    async def test_every_answer_has_them(self, client: httpx.AsyncClient, path: str) -> None:
        response = await client.get(path)
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS

    def test_a_refusal_has_them(self, studio: Studio) -> None:
        for path, host in (("/", "localhost"), (f"/{studio.token}/", "evil.example")):
            response = ask(studio, path, host=host)
            assert {name: response.headers[name] for name in HEADERS} == HEADERS

    async def test_the_policy_allows_no_script_and_nothing_from_elsewhere(self, client: httpx.AsyncClient) -> None:
        policy = (await client.get("")).headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert "script-src" not in rules
        assert set(rules.values()) <= {"'none'", "'self'"}

    async def test_no_page_needs_more_than_the_policy_gives(self, client: httpx.AsyncClient) -> None:
        for page in ("", "p/lifeline/", "p/lifeline/profile", "p/lifeline/tables/qa_tickets"):
            text = (await client.get(page)).text
            assert not re.search(r"<script|<style|\sstyle=|javascript:|https?://(?!www\.w3\.org)[^\"<]*\.(?:js|css|woff)", text)

    async def test_the_style_is_served(self, client: httpx.AsyncClient) -> None:
        response = await client.get("static/studio.css")
        assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (200, "text/css")
        assert "url(" not in response.text
        assert "@import" not in response.text

    @pytest.mark.parametrize("path", ["static/../app.py", "static/%2e%2e/app.py", "static/..%2fapp.py", "static/", "static"])
    async def test_nothing_else_is_served(self, studio: Studio, path: str) -> None:
        assert ask(studio, f"/{studio.token}/{path}", host="localhost").status in (307, 404)


class TestSockets:
    async def test_a_websocket_is_closed(self) -> None:
        sent: list[str] = []

        async def send(message) -> None:
            sent.append(message["type"])

        await asyncio.wait_for(Door(never, token="t")({"type": "websocket", "path": "/t/"}, receive, send), 5)
        assert sent == ["websocket.close"]


async def never(*_: object) -> None:
    raise AssertionError("it was let in")


async def receive() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def through(door: Door, headers: list[tuple[bytes, bytes]]) -> int:
    """The status of a request without the token: 404 says that its name was let in."""
    statuses: list[int] = []

    async def send(message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await door({"type": "http", "method": "GET", "path": "/", "headers": headers}, receive, send)
    return statuses[0]
