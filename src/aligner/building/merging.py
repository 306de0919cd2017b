"""Another store taken into this one: the parts of a build that was made on many machines."""

from sqlite3 import Connection

from aligner.building.rows import ANNOTATED, ANSWERED, ASKED, CHECKED, DROPPED, REQUEST

ROWS = {
    "questions": ASKED,
    "answers": ANSWERED,
    "annotated": ANNOTATED,
    "checked": CHECKED,
    "dropped": DROPPED,
}
# What is todo or leased there is that store's to do: here it would be asked, and paid, once more.
_REQUESTS = f"""
INSERT INTO main.requests ({REQUEST}, state, fault)
SELECT {REQUEST}, state, fault FROM part.requests WHERE state IN ('done', 'failed')
ON CONFLICT (key) DO UPDATE SET state = excluded.state, fault = excluded.fault, worker = ''
WHERE (excluded.state = 'done' AND state <> 'done') OR (excluded.state = 'failed' AND state = 'todo')
"""
_REPLIES = "INSERT INTO main.replies SELECT * FROM part.replies WHERE TRUE ON CONFLICT DO NOTHING"
_NO_FAILURES = "DELETE FROM main.failures WHERE key IN (SELECT key FROM main.replies)"
_FAILURES = """
INSERT INTO main.failures SELECT failures.* FROM part.failures AS failures
JOIN main.requests AS requests ON requests.key = failures.key WHERE requests.state = 'failed' ON CONFLICT DO NOTHING
"""
# Where a call that had failed was made again there, the row is no longer dropped.
_ANSWERED_NOW = """
DELETE FROM main.dropped WHERE stage = 'answers' AND id IN (
  SELECT id FROM main.answers JOIN part.answers USING (id, key, text, finish_reason)
  WHERE id NOT IN (SELECT id FROM part.dropped WHERE stage = 'answers')
)
"""
_CORRECTED_NOW = """
DELETE FROM main.dropped WHERE stage = 'corrections' AND id IN (
  SELECT answer FROM main.annotated JOIN part.annotated USING (id, answer, key, second) WHERE second = 0
  AND answer NOT IN (SELECT id FROM part.dropped WHERE stage = 'corrections')
)
"""
# What a store spent itself stands there without a name; elsewhere it bears the name of that store.
_SPENDING = """
INSERT INTO main.spending
SELECT CASE store WHEN '' THEN ?1 ELSE store END AS payer, stage, model, prompt_tokens, completion_tokens, cost
FROM part.spending WHERE payer <> ?2
ON CONFLICT (store, stage, model) DO UPDATE SET prompt_tokens = excluded.prompt_tokens,
completion_tokens = excluded.completion_tokens, cost = excluded.cost WHERE excluded.cost >= cost
"""


def merge(db: Connection) -> None:
    """Take what the attached store `part` has into the main one, within a transaction; again changes nothing.

    Of a request, a reply wins over a failure, and that over none; those without an outcome stay with their store. A row
    that is kept there, and is the same here, is no longer dropped.
    """
    for table, columns in ROWS.items():
        # The names are our own.
        db.execute(
            f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM part.{table} WHERE TRUE ON CONFLICT DO NOTHING"
        )
    for statement in (_REQUESTS, _REPLIES, _NO_FAILURES, _FAILURES, _ANSWERED_NOW, _CORRECTED_NOW):
        db.execute(statement)
    ours, theirs = (
        db.execute(f"SELECT value FROM {which}.meta WHERE name = 'store'").fetchone()[0] for which in ("main", "part")
    )
    db.execute(_SPENDING, (theirs, ours))
