"""The tables as a database has them: made where there are none, and brought up to date where they are older."""

from sqlalchemy import Column, Connection, Integer, Table, func, inspect, select, tuple_
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from aligner.errors import MisuseError
from aligner.serving.review.queue import begin, enqueue, restate
from aligner.serving.review.search import make_words, words
from aligner.serving.tables import INSERT, corrections, feedback, logged_from, metadata

VERSION = 2
_PREPARING = 0x616C69676E  # whoever prepares the tables in PostgreSQL holds this lock
_PAGE = 500
schema = Table("aligner_schema", metadata, Column("version", Integer, primary_key=True))


def prepare(connection: Connection, label: str) -> None:
    """Make the tables, or bring older ones up to date; raises MisuseError for those of a newer version."""
    # Looked at first: to make what is there takes locks that hold up other programs.
    if _is_whole(connection) and _version(connection, label) == VERSION:
        return
    begin(connection)
    if connection.dialect.name == "postgresql":
        # There IF NOT EXISTS alone fails when two programs make a table at once.
        connection.execute(select(func.pg_advisory_xact_lock(_PREPARING)))
    found = _version(connection, label)
    is_older = found is not None and found < VERSION
    if is_older:
        _add_columns(connection)
    _make(connection)
    if is_older:
        _fill_queue(connection)
    connection.execute(INSERT[connection.dialect.name](schema).on_conflict_do_nothing(), {"version": VERSION})


def is_current(connection: Connection, label: str) -> bool:
    """Whether the tables are of this version, and not older; raises MisuseError for what holds none, or newer ones."""
    if not inspect(connection).has_table(schema.name):
        raise MisuseError(f"{label}: holds no correction log")
    return _version(connection, label) in (None, VERSION)


def _is_whole(connection: Connection) -> bool:
    there = inspect(connection)
    return all(there.has_table(table.name) for table in metadata.sorted_tables)


def _version(connection: Connection, label: str) -> int | None:
    """The version of the tables; None where there are none."""
    if not inspect(connection).has_table(schema.name):
        return None
    found = connection.scalar(select(func.max(schema.c.version)))
    if found is not None and found > VERSION:
        raise MisuseError(
            f"{label}: was written by a newer aligner (version {found} of the tables, this one knows {VERSION}); "
            "update aligner-llm or name another database"
        )
    return found


def _make(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        if table is words:
            make_words(connection)
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(CreateIndex(index, if_not_exists=True))


def _add_columns(connection: Connection) -> None:
    """Those of version 2, to the feedback of version 1."""
    there = {column["name"] for column in inspect(connection).get_columns(feedback.name)}
    for column in (feedback.c.reviewer, feedback.c.batch):
        if column.name not in there:
            made = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {feedback.name} ADD COLUMN {made}")


def _fill_queue(connection: Connection) -> None:
    """Add all corrections to the queue, which version 1 did not have."""
    place = (corrections.c.created, corrections.c.id)
    query = select(corrections).order_by(*place).limit(_PAGE)
    following = query
    while page := [logged_from(dict(row), ()) for row in connection.execute(following).mappings()]:
        enqueue(connection, page)
        following = query.where(tuple_(*place) > tuple_(page[-1].created, page[-1].id))
    judged = list(connection.scalars(select(feedback.c.id).distinct()))
    for start in range(0, len(judged), _PAGE):
        restate(connection, judged[start : start + _PAGE])
