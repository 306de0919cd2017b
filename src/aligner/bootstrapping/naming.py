"""Which model is behind the name of a judge or an Aligner, and where it lies."""

from pathlib import Path

from aligner.correcting.writers import shipped

_IN_FOLDERS = ("hf", "reward", "truth")
"""kinds of judge that a folder holds"""
_RUBRICS = ("ours:", "published:")


def model_of(name: str) -> str:
    """The same for all names of one model; what stands behind ? says how it is asked, not who it is."""
    name = _without_rubrics(name)
    kind, _, rest = name.partition(":")
    if name == "demo":
        return str(shipped("aligner").resolve())
    place = Path(rest if kind in _IN_FOLDERS else name).expanduser()
    if not place.exists():
        place = Path(str(place).partition("?")[0])
    return str(place.resolve() if place.exists() else place)


def folder_of_judge(name: str) -> Path | None:
    """The folder of a judge that lies on this machine; none for any other."""
    kind, _, rest = _without_rubrics(name).partition(":")
    folder = Path(rest.partition("?")[0]).expanduser()
    return folder if kind in _IN_FOLDERS and folder.is_dir() else None


def _without_rubrics(name: str) -> str:
    for rubrics in _RUBRICS:
        name = name.removeprefix(rubrics)
    return name
