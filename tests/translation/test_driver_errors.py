"""The error tree, and the translation of everything that a driver, SQLAlchemy or the network can raise."""

import asyncio
import inspect
import socket
import ssl
import traceback

import asyncpg
import pytest
import sqlalchemy.exc
import sqlalchemy.orm.exc
from asyncpg.exceptions import _base

from derwin_db import errors
from derwin_db.errors import (
    AppendOnlyViolation,
    ConcurrentUse,
    ConfigurationError,
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    InvalidReference,
    InvalidStatement,
    NotFound,
    OutcomeUnknown,
    ProjectNotFound,
    RetentionLocked,
    ScopeError,
    StaleWrite,
    StorageFull,
    TooLarge,
)
from derwin_db.translation.driver_errors import (
    breaks_connections,
    is_connection_lost,
    raise_translated,
    translate,
    translate_any,
)

SECRET = "canary"
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DerwinError)]
SERVER_ERRORS = [
    kind
    for _, kind in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
    if issubclass(kind, asyncpg.PostgresError) and getattr(kind, "sqlstate", None)
]


def server_error(state: str, **fields: str) -> asyncpg.PostgresError:
    """What the driver raises for an ErrorResponse with these fields."""
    error = _base.PostgresError.new({"C": state, "M": SECRET, "D": f"Key ({SECRET})", "S": "ERROR"}, query=SECRET)
    error.__dict__.update(fields)
    return error


def assert_silent(error: DerwinError) -> None:
    shown = str(error) + repr(error) + "".join(traceback.format_exception(error)) + repr(vars(error))
    assert SECRET not in shown


class TestTree:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_each_has_a_code_of_its_own_and_a_sentence(self, kind):
        assert [other for other in KINDS if other.code == kind.code] == [kind]
        assert kind().message == kind.default
        assert kind.default.endswith(".")
        assert kind("other").message == "other"
        assert kind.__doc__

    def test_it_is_drawn_as_it_is(self):
        drawn = [line for line in errors.__doc__.splitlines() if "──" in line or line.strip() == "DerwinError"]
        assert {line.split("──")[-1].split()[0] for line in drawn} == {kind.__name__ for kind in KINDS}

    def test_every_unavailable_says_when_to_come_back(self):
        assert DatabaseUnavailable().retry_after == OutcomeUnknown().retry_after == 1


class TestStates:
    @pytest.mark.parametrize("kind", SERVER_ERRORS, ids=lambda kind: kind.__name__)
    def test_every_state_of_the_server_has_an_error_and_no_text_of_it(self, kind):
        error = translate(server_error(kind.sqlstate))
        assert isinstance(error, DerwinError)
        assert error.sqlstate == kind.sqlstate
        assert_silent(error)

    @pytest.mark.parametrize(
        ("state", "kind"),
        [
            ("DW001", AppendOnlyViolation),
            ("DW002", RetentionLocked),
            ("DW003", ProjectNotFound),
            ("22001", InvalidInput),
            ("22021", InvalidInput),
            ("22P02", InvalidInput),
            ("23502", InvalidInput),
            ("23503", InvalidReference),
            ("23505", Conflict),
            ("23514", InvalidInput),
            ("25006", ScopeError),
            ("25P02", ScopeError),
            ("25P03", DatabaseUnavailable),
            ("25P04", DatabaseTimeout),
            ("26000", InvalidStatement),
            ("28000", ConfigurationError),
            ("28P01", ConfigurationError),
            ("3D000", ConfigurationError),
            ("40001", DatabaseUnavailable),
            ("40P01", DatabaseUnavailable),
            ("42501", ScopeError),
            ("42601", InvalidStatement),
            ("42P01", InvalidStatement),
            ("42703", InvalidStatement),
            ("53100", StorageFull),
            ("53200", DatabaseUnavailable),
            ("53300", DatabaseUnavailable),
            ("54000", TooLarge),
            ("55P03", DatabaseUnavailable),
            ("57014", DatabaseTimeout),
            ("57P01", DatabaseUnavailable),
            ("57P03", DatabaseUnavailable),
            ("58030", DatabaseUnavailable),
            ("58P01", DatabaseUnavailable),
            ("XX000", DatabaseUnavailable),
            ("ZZ999", DerwinError),
        ],
    )
    def test_the_ones_that_matter(self, state, kind):
        assert type(translate(server_error(state))) is kind

    @pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "53300", "08006", "57P01", "57P02", "57P03"])
    def test_what_may_run_again(self, state):
        assert translate(server_error(state)).may_run_again

    @pytest.mark.parametrize("state", ["25P03", "53200", "58030", "XX000", "57000"])
    def test_what_may_not(self, state):
        assert not translate(server_error(state)).may_run_again
        assert not OutcomeUnknown().may_run_again

    def test_a_table_that_only_grows_is_known_from_a_refused_privilege(self):
        error = server_error("42501")
        error.args = ("permission denied for table spend_ledger",)
        assert type(translate(error)) is AppendOnlyViolation

    def test_a_constraint_is_named_and_its_values_are_not(self):
        error = translate(server_error("23514", constraint_name="ck_qa_tickets_confidence"))
        assert error.constraint == "ck_qa_tickets_confidence"
        assert "ck_qa_tickets_confidence" in error.message
        assert_silent(error)

    def test_a_name_is_as_long_as_the_server_lets_one_be(self):
        for length, is_told in ((63, True), (64, False)):
            error = translate(server_error("23514", constraint_name="c" * length))
            assert (error.constraint is not None, "ccc" in error.message) == (is_told, is_told)

    def test_a_name_of_which_a_part_is_no_word_of_the_statement_is_not_told(self):
        fields = {"C": "42P01", "M": f'relation "shop.{SECRET}" does not exist', "S": "ERROR"}
        error = translate(_base.PostgresError.new(fields, query=f"SELECT nextval('shop.{SECRET}') FROM shop.orders"))
        assert type(error) is InvalidStatement
        assert_silent(error)

    def test_a_constraint_of_a_distributed_server(self):
        error = server_error("23505")
        error.__dict__["message"] = f'duplicate key value violates unique constraint "uq_projects_slug_102034" {SECRET}'
        assert translate(error).constraint == "uq_projects_slug"
        assert_silent(translate(error))

    def test_a_missing_project_is_not_a_missing_reference(self):
        assert (
            type(translate(server_error("23503", constraint_name="fk_qa_tickets_project_id", table_name="qa_tickets")))
            is ProjectNotFound
        )

    @pytest.mark.parametrize(
        ("state", "name", "kind", "said"),
        [
            ("23503", "shop.qa_tickets.fk_qa_tickets_project_id", InvalidReference, "A referenced row does not exist"),
            ("23503", "public.orders.fk_orders_project_id", InvalidReference, "A referenced row does not exist"),
            ("23503", "public.qa_tickets.fk_qa_tickets_run_id", InvalidReference, "A referenced row does not exist"),
            ("23505", "shop.projects.pk_projects", Conflict, "A row with the same key exists already"),
            ("23505", "public.projects.pk_projects", Conflict, "A project with this slug exists already"),
        ],
    )
    def test_a_constraint_means_what_it_does_in_its_own_schema_and_table(self, state, name, kind, said):
        fields = zip(("schema_name", "table_name", "constraint_name"), name.split("."), strict=True)
        error = translate(server_error(state, **dict(fields)))
        assert type(error) is kind
        assert error.message.startswith(said)

    def test_why_the_server_closed_the_connection(self):
        lost = asyncpg.ConnectionDoesNotExistError(SECRET)
        lost.__cause__ = server_error("57P01")
        assert translate(lost).sqlstate == "57P01"
        assert translate(asyncpg.ConnectionDoesNotExistError(SECRET)).sqlstate == "08003"
        lost.__cause__ = ConnectionResetError(SECRET)
        assert translate(lost).sqlstate == "08003"

    def test_an_error_that_followed_another_is_told_by_itself(self):
        error = server_error("23505")
        error.__cause__ = server_error("57P01")
        assert translate(error).sqlstate == "23505"


class TestBuiltins:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (TimeoutError(SECRET), DatabaseTimeout),
            (ConnectionRefusedError(SECRET), DatabaseUnavailable),
            (ConnectionResetError(SECRET), DatabaseUnavailable),
            (BrokenPipeError(SECRET), DatabaseUnavailable),
            (FileNotFoundError(SECRET), DatabaseUnavailable),
            (PermissionError(SECRET), DatabaseUnavailable),
            (socket.gaierror(SECRET), DatabaseUnavailable),
            (EOFError(SECRET), DatabaseUnavailable),
            (asyncio.IncompleteReadError(b"", 1), DatabaseUnavailable),
            (ssl.SSLCertVerificationError(SECRET), ConfigurationError),
            (ssl.SSLError(SECRET), ConfigurationError),
            (ssl.SSLEOFError(SECRET), DatabaseUnavailable),
            (ssl.SSLZeroReturnError(SECRET), DatabaseUnavailable),
            (ConnectionError(f'PostgreSQL server at "{SECRET}" rejected SSL upgrade'), ConfigurationError),
        ],
    )
    def test_of_the_network(self, error, kind):
        assert type(translate(error)) is kind
        assert_silent(translate(error))

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (asyncpg.InterfaceError(f"cannot perform operation: another operation is in progress {SECRET}"), ConcurrentUse),
            (asyncpg.InternalClientError(f"cannot switch; another operation is in progress {SECRET}"), DatabaseUnavailable),
            (asyncpg.InterfaceError(f"connection is closed {SECRET}"), DatabaseUnavailable),
            (_base.DataError(SECRET), InvalidInput),
            (asyncpg.ProtocolError(SECRET), DatabaseUnavailable),
            (asyncpg.ClientConfigurationError(SECRET), ConfigurationError),
            (asyncpg.OutdatedSchemaCacheError(SECRET), DatabaseUnavailable),
            (asyncpg.InvalidCachedStatementError(SECRET), DatabaseUnavailable),
            (asyncpg.InterfaceError(f"query argument $2: no binary format encoder for type {SECRET}"), InvalidInput),
        ],
    )
    def test_of_the_driver(self, error, kind):
        assert type(translate(error)) is kind
        assert_silent(translate(error))

    def test_which_argument_has_no_encoder_is_told(self):
        error = asyncpg.InterfaceError(f"query argument $2: no binary format encoder for type {SECRET}")
        assert "argument 2" in translate(error).message

    @pytest.mark.parametrize("kind", [asyncpg.OutdatedSchemaCacheError, asyncpg.InvalidCachedStatementError])
    def test_a_schema_that_changed_under_a_statement_may_be_tried_again(self, kind):
        translated = translate(kind(SECRET))
        assert "schema" in translated.message
        assert translated.may_run_again

    @pytest.mark.parametrize("error", [KeyError(SECRET), ValueError(SECRET), RuntimeError(SECRET), MemoryError(SECRET)])
    def test_a_callers_own_is_nobodys(self, error):
        assert translate(error) is None

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET), InvalidInput),
            (TypeError(SECRET), InvalidInput),
            (OverflowError(SECRET), InvalidInput),
            (RecursionError(SECRET), InvalidInput),
            (LookupError(SECRET), InvalidInput),
            (MemoryError(SECRET), TooLarge),
            (RuntimeError(SECRET), DatabaseUnavailable),
        ],
    )
    def test_out_of_a_call_of_the_driver_it_has_one(self, error, kind):
        assert type(translate_any(error)) is kind
        assert_silent(translate_any(error))

    def test_the_original_is_not_even_its_context(self):
        """Whoever reports errors may walk along contexts, shown or not."""

        def fail() -> None:
            try:
                raise server_error("23505")
            except asyncpg.PostgresError as error:
                raise_translated(error)

        with pytest.raises(Conflict) as caught:
            fail()
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)

    def test_this_packages_own_stays_what_it_is(self):
        error = Conflict("mine")
        assert translate(error) is error
        assert translate_any(error) is error


def wrapped(cause: BaseException) -> sqlalchemy.exc.DBAPIError:
    """What SQLAlchemy makes of an error of the driver."""
    adapted = Exception(SECRET)
    adapted.__cause__ = cause
    return sqlalchemy.exc.DBAPIError(SECRET, {"a": SECRET}, adapted)


OUTDATED = [asyncpg.OutdatedSchemaCacheError(SECRET), asyncpg.InvalidCachedStatementError(SECRET)]


class TestConnections:
    @pytest.mark.parametrize(
        "error",
        [
            *(server_error(state) for state in ("08000", "08006", "57P01", "57P05")),
            *(ConnectionResetError(), EOFError(), asyncpg.InterfaceError("connection is closed")),
            *(*OUTDATED, wrapped(server_error("57P01"))),
        ],
        ids=repr,
    )
    def test_that_are_lost(self, error: BaseException) -> None:
        assert is_connection_lost(error)

    @pytest.mark.parametrize(
        "error",
        [
            *(server_error(state) for state in ("40001", "57014", "53300", "XX000")),
            *(TimeoutError(), asyncio.CancelledError(), ValueError(), DatabaseUnavailable(), wrapped(server_error("23505"))),
        ],
        ids=repr,
    )
    def test_that_are_not(self, error: BaseException) -> None:
        assert not is_connection_lost(error)

    @pytest.mark.parametrize("error", [TimeoutError(), *OUTDATED], ids=repr)
    def test_of_which_others_like_it_are_no_better(self, error: BaseException) -> None:
        assert breaks_connections(error)

    @pytest.mark.parametrize("error", [server_error("57P01"), server_error("57014"), ConnectionResetError()], ids=repr)
    def test_of_which_others_may_be(self, error: BaseException) -> None:
        assert not breaks_connections(error)


class TestSqlAlchemy:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (sqlalchemy.exc.NoResultFound(SECRET), NotFound),
            (sqlalchemy.exc.MultipleResultsFound(SECRET), InvalidStatement),
            (sqlalchemy.exc.InvalidRequestError(SECRET), InvalidStatement),
            (sqlalchemy.exc.InvalidRequestError(SECRET, code="isce"), ConcurrentUse),
            (sqlalchemy.exc.PendingRollbackError(SECRET), ScopeError),
            (sqlalchemy.exc.ArgumentError(SECRET), InvalidStatement),
            (sqlalchemy.exc.StatementError(SECRET, SECRET, {"a": SECRET}, LookupError(SECRET)), InvalidInput),
            (sqlalchemy.orm.exc.StaleDataError(SECRET), StaleWrite),
            (sqlalchemy.orm.exc.DetachedInstanceError(SECRET), InvalidStatement),
        ],
    )
    def test_what_it_raises_by_itself(self, error, kind):
        assert type(translate(error)) is kind
        assert_silent(translate(error))

    @pytest.mark.parametrize("state", ["23505", "40001", "57014"])
    def test_what_it_wraps(self, state):
        translated = translate(wrapped(server_error(state)))
        assert translated.sqlstate == state
        assert_silent(translated)
