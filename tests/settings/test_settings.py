"""Settings from the environment, from `.env`, and from what is given: used, or refused by the setting's name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from derwin_db import Database
from derwin_db.deploy import embedded
from derwin_db.deploy.targets import owner_connection
from derwin_db.errors import ConfigurationError
from derwin_db.settings import Settings

SECRET = "canary"
URL = f"postgresql://app:{SECRET}@db.example/qa"


@pytest.fixture(autouse=True)
def empty(monkeypatch, tmp_path):
    """No setting in the environment, and a folder without `.env`."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "DATABASE_URL",
        "ADMIN_URL",
        "DIRECT_URL",
        "READ_URL",
        "DERWIN_DATA_DIR",
        "DERWIN_SLOW_QUERY_SECONDS",
        *(f"DERWIN_{name.upper()}" for name in NUMBERS),
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]


class TestLoad:
    @pytest.mark.parametrize(
        ("name", "enough", "wrong"),
        [
            ("import_memory_mib", (64, 65536), (63, 65537)),
            ("pool_size", (1, 1000), (0, 1001)),
            ("pool_timeout", (0.001, 1_000_000), (0.0009, 1_000_001)),
            ("slow_query_seconds", (0, 1_000_000), (-0.1, 1_000_001, "nan", "inf")),
        ],
    )
    def test_numbers_have_bounds(self, monkeypatch, name, enough, wrong):
        for value in enough:
            monkeypatch.setenv(f"DERWIN_{name.upper()}", f"{value}")
            assert getattr(Settings.load(), name) == value
        for value in wrong:
            monkeypatch.setenv(f"DERWIN_{name.upper()}", f"{value}")
            with pytest.raises(ConfigurationError, match=f"DERWIN_{name.upper()}"):
                Settings.load()

    def test_what_code_gives_is_in_no_refusal(self):
        with pytest.raises(ValueError, match="pool_size") as caught:
            Settings(pool_size=SECRET)
        assert SECRET not in str(caught.value)

    def test_defaults(self):
        settings = Settings.load()
        assert settings.database_url is None
        assert (settings.pool_size, settings.pool_timeout, settings.connect_timeout) == (10, 5.0, 5.0)
        assert (settings.connection_life, settings.command_timeout, settings.statement_timeout) == (1800.0, 30.0, 25.0)
        assert (settings.lock_timeout, settings.idle_in_transaction_timeout) == (2.0, 30.0)

    def test_the_environment(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", URL)
        monkeypatch.setenv("DERWIN_POOL_SIZE", "3")
        settings = Settings.load()
        assert settings.connection("database_url").password == SECRET
        assert settings.pool_size == 3

    def test_the_file(self, empty):
        (empty / ".env").write_text(f'DATABASE_URL="{URL}"\nREAD_URL={URL}\nDERWIN_LOCK_TIMEOUT=0.5\nSOMETHING_ELSE=1\n')
        settings = Settings.load()
        assert settings.connection("database_url") == settings.connection("read_url")
        assert settings.lock_timeout == 0.5

    def test_the_environment_wins(self, empty, monkeypatch):
        (empty / ".env").write_text("DERWIN_POOL_SIZE=3\n")
        monkeypatch.setenv("DERWIN_POOL_SIZE", "4")
        assert Settings.load().pool_size == 4

    def test_a_tilde_is_home_in_a_file_too(self, empty, monkeypatch):
        monkeypatch.setenv("HOME", "/home/anna")
        (empty / ".env").write_text("DERWIN_DATA_DIR=~/data\nDERWIN_SCOPE_KEY_FILE=~/key\n")
        settings = Settings()
        assert (settings.data_dir, settings.scope_key_file) == (Path("/home/anna/data"), Path("/home/anna/key"))
        monkeypatch.setenv("DERWIN_DATA_DIR", "~nobody-of-this-name/data")
        assert Settings().data_dir == Path("~nobody-of-this-name/data")

    def test_what_is_none_at_all_is_refused_as_by_any_model(self):
        """Where they are a field of a service's own settings."""
        with pytest.raises(ValidationError):
            Settings.model_validate("pool_size=3")

    @pytest.mark.parametrize("blank", ["", " \t"])
    def test_blank_is_unset(self, monkeypatch, blank):
        monkeypatch.setenv("DATABASE_URL", blank)
        monkeypatch.setenv("DERWIN_POOL_SIZE", blank)
        assert Settings.load().database_url is None
        assert Settings.load().pool_size == 10

    @pytest.mark.parametrize("name", NUMBERS)
    @pytest.mark.parametrize("value", [SECRET, "0", "-1", "nan", "inf", "-inf", "1e400", "99999999999", "True", "1,5"])
    def test_a_number_that_can_not_be_is_refused_by_name(self, monkeypatch, name, value):
        monkeypatch.setenv(f"DERWIN_{name.upper()}", value)
        with pytest.raises(ConfigurationError) as caught:
            Settings.load()
        assert f"DERWIN_{name.upper()}" in str(caught.value)
        assert SECRET not in repr(caught.value)
        assert caught.value.__cause__ is None

    def test_a_file_that_is_no_text(self, empty):
        (empty / ".env").write_bytes(b"DATABASE_URL=\xff\xfe\n")
        with pytest.raises(ConfigurationError, match=r"\.env"):
            Settings.load()

    def test_a_file_that_can_not_be_read(self, empty):
        (empty / ".env").symlink_to("/proc/self/mem")  # opens, and fails at the first byte, for root as well
        with pytest.raises(ConfigurationError, match=r"The file \.env can't be read"):
            Settings.load()

    def test_nothing_secret_is_in_its_repr(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", URL)
        monkeypatch.setenv("DERWIN_SCOPE_KEY", SECRET)
        assert SECRET not in repr(Settings.load())
        assert SECRET not in str(Settings.load().model_dump())


class TestMistyped:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("DERWIN_POOLSIZE", "DERWIN_POOL_SIZE"),
            ("DERWIN_STATMENT_TIMEOUT", "DERWIN_STATEMENT_TIMEOUT"),
            ("DERWIN_DATADIR", "DERWIN_DATA_DIR"),
            ("DERWIN_LOCK_TIMEOUTS", "DERWIN_LOCK_TIMEOUT"),
        ],
    )
    def test_is_told(self, empty, monkeypatch, name, meant):
        monkeypatch.setenv(name, SECRET)
        with pytest.raises(ConfigurationError, match=rf"{name.upper()} is no setting. Is {meant} meant") as caught:
            Settings.load()
        assert SECRET not in str(caught.value)
        monkeypatch.delenv(name)
        (empty / ".env").write_text(f"{name}={SECRET}\n")
        with pytest.raises(ConfigurationError, match=meant):
            Settings.load()

    @pytest.mark.parametrize("name", ["DERWIN_API_KEY", "DERWIN_URL", "DERWIN_TEST_DATABASE_URL", "DERWIN_POOL", "POOLSIZE"])
    def test_of_another_program_is_left_alone(self, monkeypatch, name):
        monkeypatch.setenv(name, "3")
        assert Settings.load().pool_size == 10


class TestWhichUrlsCount:
    def test_the_setting_is_named_that_is_wrong(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", URL)
        monkeypatch.setenv("ADMIN_URL", f"mysql://{SECRET}")
        with pytest.raises(ConfigurationError, match="ADMIN_URL") as caught:
            Database()
        assert SECRET not in str(caught.value)

    def test_urls_that_are_given_stand_alone(self, monkeypatch):
        monkeypatch.setenv("ADMIN_URL", URL)
        assert Database(URL)._urls.admin is None

    @pytest.mark.parametrize("name", ["admin_url", "direct_url", "read_url"])
    def test_without_the_services_own_they_are_refused(self, name):
        with pytest.raises(ConfigurationError, match="url"):
            Database(**{name: URL})

    def test_a_bad_one_is_refused_before_anything_is_opened(self):
        with pytest.raises(ConfigurationError, match="%2F"):
            Database(f"postgresql://app:{SECRET}/x@db.example/qa")

    @pytest.mark.parametrize("name", ["ADMIN_URL", "DIRECT_URL", "READ_URL"])
    async def test_another_url_alone_is_refused_at_start(self, monkeypatch, name):
        monkeypatch.setattr(embedded, "start", None)
        monkeypatch.setenv(name, URL)
        with pytest.raises(ConfigurationError, match="DATABASE_URL"):
            await Database().start()

    @pytest.mark.parametrize("name", ["ADMIN_URL", "READ_URL"])
    def test_another_url_alone_leads_to_no_owner(self, monkeypatch, name):
        monkeypatch.setattr(embedded, "start", None)
        monkeypatch.setenv(name, URL)
        with pytest.raises(ConfigurationError, match="DATABASE_URL"):
            owner_connection()

    def test_the_owners_is_its_own_or_else_the_services(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", URL)
        assert owner_connection().user == "app"
        monkeypatch.setenv("DIRECT_URL", URL.replace("app", "owner"))
        assert owner_connection().user == "owner"

    async def test_a_scope_key_that_is_none_is_refused(self):
        from derwin_db.isolation.seal import Seal

        with pytest.raises(ConfigurationError, match="DERWIN_SCOPE_KEY") as caught:
            Seal.from_text(SECRET)
        assert SECRET not in str(caught.value)


class TestOneSourceOfUrls:
    OTHER = f"postgresql://other:{SECRET}@other.example/qa"

    def urls(self, settings):
        return tuple(
            connection and connection.host
            for connection in map(settings.connection, ("database_url", "admin_url", "direct_url", "read_url"))
        )

    @pytest.mark.parametrize("name", ["DATABASE_URL", "ADMIN_URL", "DIRECT_URL", "READ_URL", "database_url"])
    def test_the_file_adds_none_to_the_environment(self, empty, monkeypatch, name):
        others = {"DATABASE_URL", "ADMIN_URL", "DIRECT_URL", "READ_URL"}
        (empty / ".env").write_text("".join(f"{other}={self.OTHER}\n" for other in others) + "DERWIN_POOL_SIZE=7\n")
        monkeypatch.setenv(name, URL)
        settings = Settings.load()
        assert [host for host in self.urls(settings) if host is not None] == ["db.example"]
        assert (settings.url_source, settings.pool_size) == ("the environment", 7)

    def test_the_environment_and_the_file_add_none_to_the_code(self, empty, monkeypatch):
        (empty / ".env").write_text(f"READ_URL={self.OTHER}\n")
        monkeypatch.setenv("DIRECT_URL", self.OTHER)
        for settings in (Settings(database_url=URL), Settings(DATABASE_URL=URL)):
            assert self.urls(settings) == ("db.example", None, None, None)
            assert settings.url_source == "code"

    def test_a_blank_one_in_the_environment_takes_the_files_place(self, empty, monkeypatch):
        (empty / ".env").write_text(f"DATABASE_URL={self.OTHER}\nDIRECT_URL={self.OTHER}\n")
        monkeypatch.setenv("DATABASE_URL", "")
        settings = Settings.load()
        assert (self.urls(settings), settings.url_source) == ((None,) * 4, "the environment")

    def test_all_of_the_file(self, empty):
        (empty / ".env").write_text(f"DATABASE_URL={URL}\nDIRECT_URL={self.OTHER}\n")
        settings = Settings.load()
        assert (self.urls(settings), settings.url_source) == (("db.example", None, "other.example", None), ".env")

    def test_none_at_all(self):
        assert Settings.load().url_source is None

    def test_the_source_is_not_a_setting(self, monkeypatch):
        monkeypatch.setenv("DERWIN_URL_SOURCE", ".env")
        assert Settings.load().url_source is None

    async def test_what_is_missing_is_named_with_its_source(self, empty, monkeypatch):
        (empty / ".env").write_text(f"DATABASE_URL={URL}\n")
        monkeypatch.setenv("ADMIN_URL", self.OTHER)
        with pytest.raises(ConfigurationError, match=r"DATABASE_URL.*the environment.*\.env adds none"):
            await Database().start()
        with pytest.raises(ConfigurationError, match=r"DATABASE_URL.*the environment"):
            owner_connection()
