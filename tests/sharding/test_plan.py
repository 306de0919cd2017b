"""Laws of the plan of a job in parts."""

from pathlib import Path

from aligner.files.reading import Place
from aligner.sharding.cutting import Slice
from aligner.sharding.plan import Plan, planned


def test_a_new_job_takes_no_parts_of_an_old_one(tmp_path: Path) -> None:
    """A kill between the end of a job and the removal of its parts leaves them; they are not another job's."""
    out = tmp_path / "out.jsonl"
    slices = [Slice(Place(1, 0), 3, 2), Slice(Place(3, 9), 0, 2)]
    old = planned(out, {"aligner": "old"}, lambda: slices, parts=2)
    for number in range(2):
        old.part(number).write_text('"old"\n"old"\n')
        old.facts(number).write_text("{}")
    out.write_text('"old"\n')
    Plan(out=out, job=old.job, slices=slices, finished={"rows": 4}).save()
    new = planned(out, {"aligner": "new"}, lambda: slices, parts=2)
    assert new.left() == [0, 1]
    assert not list(tmp_path.rglob("part-*"))
    new.part(0).write_text('"new"\n"new"\n')
    assert planned(out, {"aligner": "new"}, lambda: slices, parts=2).left() == [1]
