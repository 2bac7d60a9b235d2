"""Connection URLs: every form that people have is understood, or refused with a sentence that shows nothing of it."""

import re
import ssl
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from derwin_db.errors import ConfigurationError
from derwin_db.settings import Settings
from derwin_db.settings import url as module
from derwin_db.settings.url import ConnectionInfo
from derwin_db.testing.server import url_of
from tests.faults.certificates import Authority

SECRET = "canary"
PLAIN = ConnectionInfo(host="db.example", port=5432, user="app", database="qa", password=SECRET)


def parse(url: str) -> ConnectionInfo:
    return ConnectionInfo.parse(url)


def refusal(url: str) -> str:
    """The sentence with which the URL is refused; nothing of the URL is in it, nor in what is printed of the error."""
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown.replace("parse(url)", "")
    assert str(caught.value).startswith("DATABASE_URL")
    return str(caught.value)


class TestSchemes:
    @pytest.mark.parametrize(
        "scheme",
        [
            "postgres",
            "postgresql",
            "POSTGRESQL",
            "postgresql+asyncpg",
            "postgresql+psycopg",
            "postgresql+psycopg2",
            "postgresql+psycopg_async",
        ],
    )
    def test_all_that_mean_postgresql(self, scheme):
        assert parse(f"{scheme}://app:{SECRET}@db.example/qa") == PLAIN

    @pytest.mark.parametrize(
        "url",
        [
            "",
            SECRET,
            f"mysql://app:{SECRET}@h/d",
            f"jdbc:postgresql://app:{SECRET}@h/d",
            f"host=h user=app password={SECRET}",
            f"//app:{SECRET}@h/d",
            f"postgresql:app:{SECRET}@h/d",
            f"http://app:{SECRET}@h/d",
        ],
    )
    def test_no_others(self, url):
        assert "postgresql://" in refusal(url)


class TestWrapping:
    @pytest.mark.parametrize("wrap", ["{}", "  {}\n", '"{}"', "'{}'", "psql {}", "psql '{}'", 'psql   "{}"  '])
    def test_what_is_pasted_around_it_comes_off(self, wrap):
        assert parse(wrap.format(f"postgresql://app:{SECRET}@db.example/qa")) == PLAIN

    @pytest.mark.parametrize("middle", [" ", "\n", "\t", "\x00", "\x7f", "\u2028", "\xa0"])
    def test_white_space_inside_is_refused(self, middle):
        assert "percent-encode" in refusal(f"postgresql://app:{SECRET}{middle}x@db.example/qa")


class TestPasswords:
    @pytest.mark.parametrize("mark", ["/", "?", "#", "?x=1&y", "/a/b", "1/", "12?34"])
    def test_a_raw_delimiter_is_refused(self, mark):
        assert "%2F" in refusal(f"postgresql://app:{SECRET}{mark}x@db.example/qa")
        assert "%2F" in refusal(f"postgresql://app:{mark}{SECRET}@db.example:5432/qa?sslmode=require")

    def test_a_raw_at_is_refused(self):
        assert "%40" in refusal(f"postgresql://app:{SECRET}@x@db.example/qa")

    @pytest.mark.parametrize("mark", ["%", "%x", "%zz", "100%!"])
    def test_a_raw_percent_is_refused(self, mark):
        assert "%25" in refusal(f"postgresql://app:{SECRET}{mark}@db.example/qa")

    @pytest.mark.parametrize("mark", ["%00", "%ff", "%c3%28"])
    def test_what_decodes_to_no_text_is_refused(self, mark):
        assert "no text" in refusal(f"postgresql://app:{SECRET}{mark}@db.example/qa")

    def test_a_hash_anywhere_is_refused(self):
        assert "%23" in refusal(f"postgresql://app:{SECRET}@db.example/qa#x")

    @given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1))
    def test_encoded_every_password_comes_out_as_it_was(self, password):
        assert parse(f"postgresql://app:{quote(password, safe='')}@db.example/qa").password == password
        assert parse(f"postgresql://app@db.example/qa?password={quote(password, safe='')}").password == password

    @given(st.text(min_size=1, max_size=40))
    def test_raw_it_comes_out_as_it_was_or_is_refused(self, password):
        try:
            seen = parse(f"postgresql://app:{password}@db.example/qa")
        except ConfigurationError:
            return
        assert (seen.host, seen.user, seen.database) == ("db.example", "app", "qa")
        assert seen.password == unquote(password)

    def test_an_at_in_the_query_is_no_end_of_a_password(self):
        seen = parse("postgresql:///qa?host=/tmp&user=a@b")
        assert (seen.user, seen.host, seen.password) == ("a@b", "/tmp", None)

    def test_a_plus_is_a_plus(self):
        assert parse("postgresql://app:a+b@db.example/qa?application_name=a+b").password == "a+b"
        assert parse("postgresql://app@db.example/qa?password=a+b").password == "a+b"

    def test_the_file_of_the_settings_is_for_urls_that_say_nothing_of_one(self, tmp_path):
        own, for_all = tmp_path / "own", tmp_path / "{user}"
        own.touch()
        settings = Settings(_env_file=None, password_file=for_all)
        completed = [
            parse(f"postgresql://{url}").completed(settings)
            for url in ("app@h/qa", f"app:{SECRET}@h/qa", f"app@h/qa?password_file={own}")
        ]
        assert [(info.password, info.password_file) for info in completed] == [
            (None, str(for_all)), (SECRET, None), (None, str(own)),
        ]  # fmt: skip
        assert [info.gets_password for info in completed] == [True, False, True]
        assert completed[1].with_password_of(lambda _: "x").gets_password

    def test_none_and_empty(self):
        assert parse("postgresql://app@db.example/qa").password is None
        assert parse("postgresql://app:@db.example/qa").password is None


class TestPlaces:
    @pytest.mark.parametrize(
        ("url", "host", "port"),
        [
            ("postgresql://app@DB.example/qa", "db.example", 5432),
            ("postgresql://app@db.example:6000/qa", "db.example", 6000),
            ("postgresql://app@db.example:/qa", "db.example", 5432),
            ("postgresql://app@db.example:65535/qa", "db.example", 65535),
            ("postgresql://app@[::1]/qa", "::1", 5432),
            ("postgresql://app@[2001:db8::1]:6000/qa", "2001:db8::1", 6000),
            ("postgresql://app@/qa?host=/var/run/PostgreSQL", "/var/run/PostgreSQL", 5432),
            ("postgresql:///qa?host=/tmp&port=5433&user=app", "/tmp", 5433),
            ("postgresql://app@%2Fvar%2FRun/qa", "/var/Run", 5432),
            ("postgresql://app@/qa", "", 5432),
            ("postgresql://?host=h&user=app&dbname=qa", "h", 5432),
            ("postgresql://h/qa?host=h&user=app&dbname=qa", "h", 5432),
            ("postgresql://app@h:6000/qa?port=6000&user=app", "h", 6000),
            ("postgresql://app@h:5432/qa?port=6000", "h", 6000),
        ],
    )
    def test_understood(self, url, host, port):
        seen = parse(url)
        assert (seen.host, seen.port, seen.user, seen.database) == (host, port, "app", "qa")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://app@db.example:x/qa",
            "postgresql://app@db.example:0/qa",
            "postgresql://app@db.example:65536/qa",
            "postgresql://app@db.example:99999/qa",
            "postgresql://app@db.example:5432:1/qa",
            "postgresql://app@[::1/qa",
            "postgresql://app@::1/qa",
            "postgresql://app@a,/qa",
            "postgresql://app@a,a/qa",
            "postgresql://app@a:1,b:x/qa",
            "postgresql://app@a:1,b:70000/qa",
            "postgresql://app@/qa?host=a,b&port=1,2,3",
            "postgresql://app@/qa?host=a,&port=1",
            "postgresql://app@a/qa?port=1,2",
            "postgresql://app@" + ",".join(f"h{number}" for number in range(17)) + "/qa",
            "postgresql://app@a%2Cb,c/qa",
            "postgresql://app@/qa?host=" + ",".join(f"h{number}" for number in range(17)),
            "postgresql://app@a/qa?host=b",
            "postgresql://app@a:6000/qa?port=6001",
            "postgresql://app:one@a/qa?password=other",
            "postgresql://app@a/qa?user=other",
            "postgresql://app@a/qa?dbname=other",
            "postgresql://app@a/qa?port=x",
            "postgresql://db.example/qa",
            "postgresql://app@db.example",
            "postgresql://app@db.example/",
            "postgresql://app@db.example/a/b",
            "postgresql://",
        ],
    )
    def test_refused(self, url):
        refusal(url)

    @pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
    def test_this_machine(self, host):
        assert parse(f"postgresql://app@{host}/qa").is_local
        assert parse("postgresql://app@/qa?host=/tmp").is_local

    @pytest.mark.parametrize("host", ["db", "localhost.example", "10.0.0.1", "[2001:db8::1]", "127.example"])
    def test_another_machine(self, host):
        assert not parse(f"postgresql://app@{host}/qa").is_local


class TestOptions:
    def test_all_that_are_known(self, tmp_path):
        roots = tmp_path / "ca.pem"
        roots.write_text("x")
        seen = parse(
            "postgresql://app@db.example/qa?sslmode=verify-ca&schema=public&pgbouncer=true&connection_limit=3&pool_timeout=7"
            f"&connect_timeout=4&application_name=me&sslrootcert={roots}&client_encoding=UTF8&keepalives=1&gssencmode=disable"
            "&channel_binding=prefer&supa=base-pooler.x"
        )
        assert seen == ConnectionInfo(
            host="db.example",
            port=5432,
            user="app",
            database="qa",
            sslmode="verify-ca",
            sslrootcert=str(roots),
            is_pooled=True,
            pool_size=3,
            pool_timeout=7.0,
            connect_timeout=4.0,
            application_name="me",
        )

    @pytest.mark.parametrize("encoding", ["UTF8", "utf-8", "auto"])
    def test_the_encoding_that_is_spoken_anyway(self, encoding):
        assert parse(f"postgresql://app:{SECRET}@db.example/qa?client_encoding={encoding}") == PLAIN

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("off", False)])
    def test_pgbouncer(self, text, value):
        assert parse(f"postgresql://app@db.example:6543/qa?pgbouncer={text}").is_pooled is value

    def test_the_port_of_a_known_pooler_says_it_too(self):
        assert parse("postgresql://app@db.example:6543/qa").is_pooled
        assert not parse("postgresql://app@db.example:5432/qa").is_pooled

    @pytest.mark.parametrize(
        ("text", "mode"), [("ssl=true", "require"), ("ssl=false", "disable"), ("ssl=verify-ca", "verify-ca")]
    )
    def test_ssl(self, text, mode):
        assert parse(f"postgresql://app@db.example/qa?{text}").sslmode == mode

    @pytest.mark.parametrize(
        "query",
        [
            f"password_typo={SECRET}",
            SECRET,
            f"={SECRET}",
            f"sslmode={SECRET}",
            "sslmode=",
            "sslmode=require&sslmode=disable",
            "pgbouncer=true&pgbouncer=false",
            "connect_timeout=3&connect_timeout=3",
            "ssl=true&sslmode=disable",
            "sslrootcert=/does/not/exist",
            "sslrootcert=system&sslmode=require",
            f"schema={SECRET}",
            f"pgbouncer={SECRET}",
            "connection_limit=0",
            "connection_limit=-1",
            "connection_limit=1.5",
            "connection_limit=\uff15",
            "connection_limit=99999999999",
            "pool_timeout=0",
            "pool_timeout=x",
            "connect_timeout=0",
            "channel_binding=require",
            "client_encoding=latin1",
            "options=-c%20search_path%3Dx",
            "target_session_attrs=master",
            "sslkey=/does/not/exist",
            "password_file=/does/not/exist",
            "statement_cache_size=0",
            "application_name=%00",
        ],
    )
    def test_refused(self, query):
        refusal(f"postgresql://app:{SECRET}@db.example/qa?{query}")

    def test_a_password_and_its_file_are_one_too_many(self, tmp_path):
        (tmp_path / "password").write_text("x")
        said = refusal(f"postgresql://app:{SECRET}@db.example/qa?password_file={tmp_path}/password")
        assert "a password and a password_file" in said


MANY = [f"h{number}" for number in range(16)]
"""As many hosts as a URL may name."""


class TestSeveralHosts:
    @pytest.mark.parametrize(
        ("url", "places"),
        [
            ("postgresql://app@A.example,b.example:6000/qa", (("a.example", 5432), ("b.example", 6000))),
            ("postgresql://app@[::1]:1,b/qa", (("::1", 1), ("b", 5432))),
            ("postgresql://app@/qa?host=/one,/two&port=5433", (("/one", 5433), ("/two", 5433))),
            ("postgresql://app@/qa?port=1,2&host=/one,/two", (("/one", 1), ("/two", 2))),
            (f"postgresql://app@{','.join(MANY)}/qa", tuple((host, 5432) for host in MANY)),
            (f"postgresql://app@/qa?host={','.join(MANY)}", tuple((host, 5432) for host in MANY)),
        ],
    )
    def test_are_all_taken(self, url, places):
        info = parse(url)
        assert info.places == places
        assert info.target_session_attrs == "read-write"
        assert info.at(*places[1]).places == (places[1],)
        assert all(str(port) in info.place or host.startswith("/") for host, port in places)

    def test_are_written_as_they_were_read(self):
        for url in (
            "postgresql://app:x%40@a:1,[::1]:2/qa?sslmode=require&target_session_attrs=primary",
            "postgresql://app@/qa?host=/one,/two&port=1,2&target_session_attrs=any",
            "postgresql://app@a:6543/qa",
            "postgresql://app@a:6543/qa?pgbouncer=false",
            "postgresql://app@[::1]/qa?pgbouncer=true",
            "postgresql://app@/qa",
        ):
            assert parse(url_of(parse(url))) == parse(url)

    @given(*[st.text(min_size=1).filter(lambda text: text.isprintable() and "/" not in text)] * 3)
    def test_are_written_with_whatever_names_they_have(self, user, password, database):
        info = replace(PLAIN, user=user, password=password, database=database)
        assert parse(url_of(info)) == info

    def test_of_a_replica_may_be_any(self):
        assert ConnectionInfo.parse("postgresql://app@a,b/qa", name="READ_URL").target_session_attrs is None
        asked = ConnectionInfo.parse("postgresql://app@a,b/qa?target_session_attrs=prefer-standby", name="READ_URL")
        assert asked.target_session_attrs == "prefer-standby"
        assert parse("postgresql://app@a/qa").target_session_attrs is None

    @pytest.mark.parametrize(("place", "is_local"), [("localhost,127.0.0.1:1", True), ("localhost,b", False)])
    def test_are_local_together(self, place, is_local):
        assert parse(f"postgresql://app@{place}/qa").is_local is is_local


class TestSecrecy:
    def test_the_repr_has_no_password(self):
        assert SECRET not in repr(PLAIN)
        assert SECRET not in str(PLAIN)
        assert SECRET not in PLAIN.place
        assert SECRET not in repr(replace(PLAIN, password_source=partial(str, SECRET)))

    KNOWN = set(re.findall(r"\w+", Path(module.__file__).read_text())) | {"DATABASE_URL"}
    """The words of the code itself: a refusal is made of these alone."""

    @given(st.text(max_size=60))
    def test_no_refusal_shows_anything(self, text):
        sentence = ""
        try:
            parse(f"postgresql://{text}")
        except ConfigurationError as error:
            sentence = str(error)
        assert set(re.findall(r"\w+", sentence)) <= self.KNOWN

    @given(
        st.text("abcdefghjkmnpqrstuvwxyz23456789", min_size=4, max_size=9).filter(
            lambda word: word not in TestSecrecy.KNOWN and not word.isdigit()  # a port, or seconds
        ),
        st.sampled_from(
            [
                "{}://u@h/d",
                "postgresql://u:{}/@h/d",
                "postgresql://u:{}@x@h/d",
                "postgresql://u:{}%@h/d",
                "postgresql://u@h:{}/d",
            ]
            + ["postgresql://u@h/d/{}", "postgresql://u@h/d#{}", "postgresql://u@h/d?{}", "postgresql://u@h/d?{}=1"]
            + [f"postgresql://u@h/d?{key}={{}}" for key in ("sslmode", "pool_timeout", "pgbouncer", "host", "user", "schema")]
        ),
    )
    def test_no_refusal_shows_a_short_word(self, word, form):
        with pytest.raises(ConfigurationError) as refused:
            parse(form.format(word))
        assert word not in re.findall(r"\w+", str(refused.value))


class TestTls:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "", "/tmp"])
    def test_this_machine_may_go_without(self, host):
        info = ConnectionInfo(host=host, port=1, user="u", database="d")
        assert info.connect_arguments()["ssl"] in ("prefer", False)

    def test_another_machine_is_verified_in_full(self):
        context = PLAIN.connect_arguments()["ssl"]
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED

    @pytest.mark.parametrize(
        ("mode", "host", "certificate"),
        [("verify-full", True, ssl.CERT_REQUIRED), ("verify-ca", False, ssl.CERT_REQUIRED), ("require", False, ssl.CERT_NONE)],
    )
    def test_unless_the_url_says_otherwise(self, mode, host, certificate):
        context = parse(f"postgresql://app@db.example/qa?sslmode={mode}").connect_arguments()["ssl"]
        assert (context.check_hostname, context.verify_mode) == (host, certificate)

    @pytest.mark.parametrize(("mode", "argument"), [("disable", False), ("allow", "allow"), ("prefer", "prefer")])
    def test_or_asks_for_none(self, mode, argument):
        assert parse(f"postgresql://app@db.example/qa?sslmode={mode}").connect_arguments()["ssl"] == argument

    @pytest.mark.parametrize("host", ["db.example", "localhost", "127.0.0.1"])
    def test_the_systems_roots_verify_in_full_wherever_the_server_is(self, host):
        context = parse(f"postgresql://app@{host}/qa?sslrootcert=system").connect_arguments()["ssl"]
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)

    def test_a_certificate_of_this_side_is_shown_to_nobody_who_is_not_verified(self, tmp_path):
        certificate, key = Authority(tmp_path).issue_to("app")
        context = parse(f"postgresql://app@localhost/qa?sslcert={certificate}&sslkey={key}").connect_arguments()["ssl"]
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)

    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
    def test_a_certificate_is_refused_where_none_may_be_asked_for(self, tmp_path, mode):
        (tmp_path / "certificate").touch()
        said = refusal(f"postgresql://app:{SECRET}@db.example/qa?sslcert={tmp_path}/certificate&sslmode={mode}")
        assert "sslcert goes with sslmode=require" in said

    def test_a_file_that_went_away_meanwhile_is_refused(self, tmp_path):
        roots = tmp_path / "ca.pem"
        roots.write_text("x")
        info = parse(f"postgresql://app@db.example/qa?sslrootcert={roots}")
        roots.unlink()
        with pytest.raises(ConfigurationError, match="sslrootcert"):
            info.connect_arguments()

    def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(self, tmp_path):
        certificate, key = Authority(tmp_path).issue_to("app")
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(SECRET.encode())
        key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
        info = parse(f"postgresql://app@db.example/qa?sslcert={certificate}&sslkey={key}")
        with pytest.raises(ConfigurationError, match="A key with a passphrase is not supported"):
            info.connect_arguments()

    def test_a_file_without_certificates_is_refused(self, tmp_path):
        roots = tmp_path / "ca.pem"
        roots.write_text("x")
        info = parse(f"postgresql://app@db.example/qa?sslrootcert={roots}")
        with pytest.raises(ConfigurationError, match="sslrootcert"):
            info.connect_arguments()


class TestTlsOfSettings:
    """Files that the settings name for all URLs."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "some.pem").write_text("x")
        return tmp_path / "some.pem"

    def completed(self, query: str, **settings: object) -> ConnectionInfo:
        return parse(f"postgresql://app@db.example/qa?{query}").completed(Settings(_env_file=None, **settings))

    def test_are_taken_where_the_url_names_none(self, file: Path):
        info = self.completed("", sslrootcert=file, sslcert=file, sslkey=file)
        assert (info.sslmode, info.sslrootcert, info.sslcert, info.sslkey) == (None, *[str(file)] * 3)

    @pytest.mark.parametrize("roots", [{}, {"sslrootcert": "system"}])
    def test_a_certificate_of_the_url_never_gets_their_key(self, file: Path, roots: dict[str, str]):
        info = self.completed(f"sslcert={file}", sslcert=file.parent / "none", sslkey=file.parent / "none", **roots)
        assert (info.sslcert, info.sslkey) == (str(file), None)

    @pytest.mark.parametrize(
        ("query", "names", "said"),
        [
            ("", ["sslkey"], "The URL with DERWIN_SSLKEY has an sslkey without its sslcert"),
            ("sslmode=prefer", ["sslcert"], "The URL with DERWIN_SSLCERT: sslcert goes with sslmode=require"),
            (
                "sslmode=allow",
                ["sslcert", "sslkey"],
                "DERWIN_SSLCERT and DERWIN_SSLKEY: sslcert goes with sslmode=require",
            ),
        ],
    )
    def test_that_do_not_go_with_it_are_refused_by_their_names(self, file: Path, query: str, names: list[str], said: str):
        with pytest.raises(ConfigurationError, match=said):
            self.completed(query, **dict.fromkeys(names, file))

    @pytest.mark.parametrize("name", ["sslrootcert", "sslcert"])
    def test_one_that_is_not_there_is_refused_by_its_name(self, name: str):
        with pytest.raises(ConfigurationError, match=rf"DERWIN_{name.upper()} names a file that is not on this machine"):
            self.completed("", **{name: "/does/not/exist"})

    def test_the_systems_roots_are_no_file_and_verify_in_full(self):
        info = self.completed("", sslrootcert="system")
        assert (info.sslmode, info.sslrootcert) == ("verify-full", "system")
        with pytest.raises(ConfigurationError, match="DERWIN_SSLROOTCERT: sslrootcert=system goes with sslmode=verify-full"):
            self.completed("sslmode=require", sslrootcert="system")

    def test_a_url_without_tls_takes_none_of_them(self):
        info = self.completed("sslmode=disable", sslrootcert="system", sslcert="/does/not/exist", sslkey="/does/not/exist")
        assert info == parse("postgresql://app@db.example/qa?sslmode=disable")


class TestOptionsThatAreNotTaken:
    @pytest.mark.parametrize(
        ("option", "said"),
        [
            ("options=-c%20search_path%3Dapp", "has the option options, .* remove it"),
            ("statement_timeout=5000", "has the option statement_timeout, .* DERWIN_STATEMENT_TIMEOUT"),
            ("passfile=x", "has the option passfile, .* password_file"),
            ("sslmod=require", "at place 1 behind the question mark. Is sslmode meant?"),
            ("pgbouncer=true&canary=1", "at place 2 behind the question mark. Known ones"),
            ("pgbouncer=true&pgbouncer=false", "gives the option pgbouncer twice"),
        ],
    )
    def test_are_named_unless_they_may_be_a_password(self, option, said):
        with pytest.raises(ConfigurationError, match=said) as caught:
            ConnectionInfo.parse(f"postgresql://u:canary@h/d?{option}")
        assert "canary" not in str(caught.value)

    def test_all_that_are_named_say_what_to_do(self):
        from derwin_db.settings.url import _TAKEN, _UNSUPPORTED

        assert not _TAKEN & _UNSUPPORTED.keys()
        for option in _UNSUPPORTED:
            with pytest.raises(ConfigurationError, match=f"has the option {option},"):
                ConnectionInfo.parse(f"postgresql://u@h/d?{option}=1")

    def test_the_place_has_its_port(self):
        assert ConnectionInfo.parse("postgresql://u@[::1]:6000/d").place == "database 'd' on [::1]:6000"
