"""Names and attributes of the semantic conventions, from what was observed.

Source: OpenTelemetry's semantic conventions for database spans and metrics, and for PostgreSQL, schema 1.44.0.
"""

from derwin_db.observe.events import Endpoint, StatementEvent

SCOPE = "derwin_db"
SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

Attributes = dict[str, str | int]


def of_call(call: StatementEvent) -> Attributes:
    """Return what a span and a duration share. Each has few values.

    The summary, and so the span's name, is the repository's method; for SQL of a caller its verb alone.
    """
    attributes: Attributes = {**of_server(call.server), "db.query.summary": call.name}
    if call.statement is not None:
        many = "BATCH " if _is_batch(call) else ""
        attributes["db.query.summary"] = f"{many}{call.name}"
        attributes["db.operation.name"] = f"{many}{call.statement.operation}"
        if call.statement.table is not None:
            attributes["db.collection.name"] = call.statement.table
    elif call.name.isalpha():  # a command of this package, as BEGIN
        attributes["db.operation.name"] = call.name
    if call.error is not None:
        attributes["error.type"] = call.sqlstate or call.error
    if call.sqlstate is not None:
        attributes["db.response.status_code"] = call.sqlstate
    return attributes


def of_statement(call: StatementEvent) -> Attributes:
    """Return the SQL of a repository's statement, which has parameters for all values. A caller's SQL may hold values."""
    if call.statement is None:
        return {}
    text: Attributes = {"db.query.text": call.statement.sql}
    if call.batch is not None and _is_batch(call):
        text["db.operation.batch.size"] = call.batch
    return text


def of_server(server: Endpoint) -> Attributes:
    """Return where a statement went."""
    return {
        "db.system.name": "postgresql",
        "db.namespace": server.database,
        "server.address": server.host,
        "server.port": server.port,
    }


def of_pool(server: Endpoint) -> dict[str, str]:
    """Return the name of a pool: the login is what tells the service's from the operator's."""
    return {"db.client.connection.pool.name": f"{server.login}@{server.host}:{server.port}/{server.database}"}


def _is_batch(call: StatementEvent) -> bool:
    return call.batch is not None and call.batch != 1
