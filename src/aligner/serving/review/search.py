"""How words are searched for: SQLite's FTS5 over the words of the queue, or PostgreSQL's GIN."""

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Table,
    Text,
    cast,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.types import TypeDecorator

from aligner.serving.tables import NUMBER, add_rows, metadata


class _Lexemes(TypeDecorator[str]):
    """Words with spaces between, as PostgreSQL indexes them; its own way to tell words apart is not asked."""

    impl = TSVECTOR
    cache_ok = True

    def bind_expression(self, bindparam: BindParameter[str]) -> ColumnElement[str]:
        """Into the database."""
        return func.array_to_tsvector(func.string_to_array(cast(bindparam, Text), " ", type_=ARRAY(Text)))


words = Table(
    "aligner_words",
    metadata,
    Column(
        "number", NUMBER, ForeignKey("aligner_queue.number", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("words", Text().with_variant(_Lexemes(), "postgresql"), nullable=False),
)

_PAGES = 1000
"""of the index of words that are written at a time"""
Terms = Sequence[Sequence[str]]
"""of each inner sequence, a row has to hold one"""
# Words are told apart before; letters beyond ASCII are part of a word for this tokenizer, whatever they are.
_FTS5 = (
    """CREATE VIRTUAL TABLE aligner_search USING fts5(
        words, content='aligner_words', content_rowid='number',
        detail=none, columnsize=0, tokenize="ascii tokenchars '_:'"
    )""",
    """CREATE TRIGGER aligner_words_deleted AFTER DELETE ON aligner_words BEGIN
        INSERT INTO aligner_search(aligner_search, rowid, words) VALUES ('delete', old.number, old.words);
    END""",
)
# Rows wait in a list, which is searched, too, until there are enough to be sorted in together.
_GIN = ("CREATE INDEX aligner_words_search ON aligner_words USING gin (words) WITH (gin_pending_list_limit = 16384)",)


def add_words(connection: Connection, words_by_number: Mapping[int, Sequence[str]]) -> None:
    """Add the words of rows that have none."""
    rows = [{"number": number, "words": " ".join(found)} for number, found in words_by_number.items()]
    if rows:
        add_rows(connection, words, rows)
    if rows and connection.dialect.name == "sqlite":
        # A trigger would have FTS5 write to the file for every row, and not for all rows together.
        connection.execute(text("INSERT INTO aligner_search(rowid, words) VALUES (:number, :words)"), rows)


def make_words(connection: Connection) -> None:
    """Make the table of words with its index, where there is none."""
    if inspect(connection).has_table(words.name):
        return
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        connection.exec_driver_sql("DROP TABLE IF EXISTS aligner_search")
    words.create(connection)
    for statement in _FTS5 if is_sqlite else _GIN:
        connection.exec_driver_sql(statement)


def merge_words(connection: Connection) -> None:
    """Leave nothing of deleted rows in SQLite's index of words, which is written anew at once."""
    connection.exec_driver_sql("INSERT INTO aligner_search(aligner_search) VALUES ('optimize')")


def merge_some(connection: Connection, *, begins: bool) -> bool:
    """The same in steps of some megabytes; gives whether there is more to do."""
    before = connection.exec_driver_sql("SELECT total_changes()").scalar_one()
    pages = -_PAGES if begins else _PAGES
    connection.exec_driver_sql(f"INSERT INTO aligner_search(aligner_search, rank) VALUES ('merge', {pages})")  # noqa: S608
    # FTS5 changes less than two rows where nothing is left to merge.
    return connection.exec_driver_sql("SELECT total_changes()").scalar_one() - before >= 2


def match(terms: Terms) -> str:
    """What FTS5 is asked."""
    return " AND ".join("(" + " OR ".join(f'"{word}"' for word in among) + ")" for among in terms)


def tsquery(terms: Terms) -> str:
    """What PostgreSQL is asked."""
    return " & ".join("(" + " | ".join(f"'{word}'" for word in among) + ")" for among in terms)
