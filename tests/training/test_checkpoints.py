"""Laws of checkpoints that are torn, whole, or neither."""

from pathlib import Path

from aligner.training.checkpoints import mark_complete, newest_complete


def _checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * 100)
    (path / "optimizer.pt").write_bytes(b"moments" * 100)
    return path


def test_the_newest_whole_checkpoint_is_found_by_number(tmp_path: Path) -> None:
    """Step 1000 is newer than step 200, whatever the alphabet says."""
    for step in (200, 1000):
        mark_complete(_checkpoint(tmp_path, step))
    assert newest_complete(tmp_path) == tmp_path / "checkpoint-1000"


def test_a_checkpoint_without_its_mark_does_not_count(tmp_path: Path) -> None:
    """A folder that was being written when the process died is set aside, and the one before it is used."""
    mark_complete(_checkpoint(tmp_path, 1))
    _checkpoint(tmp_path, 2)
    assert newest_complete(tmp_path) == tmp_path / "checkpoint-1"
    assert [path.name.split("-")[:3] for path in tmp_path.glob("torn-*")] == [["torn", "checkpoint", "2"]]


def test_a_torn_file_makes_a_checkpoint_torn(tmp_path: Path) -> None:
    """A marked checkpoint with a file that is shorter now, or gone, is set aside with all that is left of it."""
    mark_complete(_checkpoint(tmp_path, 1))
    for step, harm in ((2, lambda path: path.write_bytes(b"wei")), (3, Path.unlink)):
        torn = _checkpoint(tmp_path, step)
        mark_complete(torn)
        harm(torn / "model.safetensors")
    assert newest_complete(tmp_path) == tmp_path / "checkpoint-1"
    assert len(list(tmp_path.glob("torn-checkpoint-*/optimizer.pt"))) == 2


def test_nothing_whole_is_nothing(tmp_path: Path) -> None:
    """Without a whole checkpoint there is none, also where the folder does not exist."""
    assert newest_complete(tmp_path / "nowhere") is None
    _checkpoint(tmp_path, 5)
    assert newest_complete(tmp_path) is None
