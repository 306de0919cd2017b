"""Laws of the accelerate configurations that ship."""

from pathlib import Path
from typing import Any, cast

import pytest
from accelerate.commands.config.config_args import load_config_from_file

_FOLDER = Path(__file__).parents[2] / "configs" / "accelerate"
_GUIDES = sorted((Path(__file__).parents[2] / "docs" / "guides").glob("[st]*.md"))


@pytest.mark.parametrize(("name", "kind"), [("fsdp2", "FSDP"), ("zero3", "DEEPSPEED")])
def test_accelerate_reads_what_ships(name: str, kind: str) -> None:
    """Each file is read by accelerate's own loader, which refuses keys that it does not know."""
    config = cast(Any, load_config_from_file(str(_FOLDER / f"{name}.yaml")))
    assert type(config).__name__ == "ClusterConfig"
    assert config.distributed_type == kind
    assert config.num_processes >= 2
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == 3


@pytest.mark.parametrize("path", [*sorted(_FOLDER.glob("*.yaml")), *_GUIDES], ids=lambda path: path.name)
def test_a_shown_command_is_not_refused(path: Path) -> None:
    """Every command that starts training with sharded weights switches off what would look at them."""
    shown = [line for line in path.read_text().splitlines() if "accelerate launch" in line and "aligner train" in line]
    assert all("--identity.check-every 0" in line for line in shown)
    assert path.suffix == ".md" or shown


def test_each_file_is_run_by_several_processes() -> None:
    """What ships is launched by torchrun's own machinery: without it, accelerate starts one process and no more."""
    for path in _FOLDER.glob("*.yaml"):
        assert cast(Any, load_config_from_file(str(path))).distributed_type in ("FSDP", "DEEPSPEED", "MULTI_GPU")
