"""Make the two small checkpoints that ship with the package: `make assets`.

aligner     what `aligner demo` trains: the same configuration and the same rows
upstream    a language model that answers questions of the closed world, well or badly, as its upstreams do
"""

import argparse
import shutil
from pathlib import Path
from random import Random

from aligner.bootstrapping.encoding import answer_rows
from aligner.bootstrapping.nouns import Pair
from aligner.calibrate import calibrated
from aligner.config import DemoConfig, Gate, Optimisation
from aligner.correcting.writers import shipped
from aligner.demo import gate_rows, train_demo
from aligner.jobs import progress
from aligner.models.hf import load_causal_lm
from aligner.training.adapter import Fit, Progress, fit
from aligner.training.encode import grouped_by_length
from aligner.training.measuring import standard_named
from aligner.world.rows import training_rows

_CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CONTEXT = 256
"""tokens"""
_LARGEST = 4 * 2**20
GATE = Gate(wanted=0.005)
"""half of what a gate promises unless told otherwise, so that answers drawn by chance keep to it, too"""


def main() -> None:
    """Train both, check their size, and put them into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/assets"), help="run folder")
    parser.add_argument("--upstream-rows", type=int, default=30_000, help="training rows of the upstream")
    arguments = parser.parse_args()
    aligner = train_demo(DemoConfig(out=arguments.out / "demo"))
    print(calibrated(aligner, [row.triple for row in gate_rows()], GATE, standard_named("world").is_good).told)
    upstream = make_upstream(arguments.out, aligner, arguments.upstream_rows)
    for name, folder in (("aligner", aligner), ("upstream", upstream)):
        _ship(folder, shipped(name))


def make_upstream(out: Path, aligner: Path, count: int) -> Path:
    """The Aligner's weights, trained further to answer questions as the seen upstreams do."""
    folder = out / "upstream"
    lm = load_causal_lm(aligner, "cpu")
    lm.tokenizer.chat_template = _CHAT
    pairs = [Pair(row.asked.text, row.answer, None) for row in training_rows(count=count, seed=2)]
    rows = answer_rows(lm.tokenizer, pairs, max_length=_CONTEXT).rows
    how = Optimisation(learning_rate=1.5e-3, batch=32, accumulate=1, epochs=1)
    Random(0).shuffle(rows)
    with progress("upstream", total=len(rows)) as tick:
        seen = 0

        def report(now: Progress) -> None:
            nonlocal seen
            tick(now.rows - seen, f"loss {now.loss:.3f}")
            seen = now.rows

        plan = Fit(stage=how, folder=folder, seed=0, save_every=200, on_progress=report)
        model = fit(lm.model, lm.tokenizer, grouped_by_length(rows, batch=how.batch, seed=0), plan)
    model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def _ship(folder: Path, place: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > _LARGEST:
        raise SystemExit(f"{folder} has {size:,} bytes, more than {_LARGEST:,}")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    for path in place.iterdir():
        path.chmod(0o644)
    print(f"{place}: {size:,} bytes")


if __name__ == "__main__":
    main()
