"""Laws of the writers that are right by construction, and of writers by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.correcting.writers import Writer, load_writer, shipped
from aligner.errors import CheckpointError, MisuseError
from aligner.records import Exchange, SamplingParams

GREEDY = SamplingParams()
POLITE = [{"pattern": "(?i)stupid ", "replace": ""}, {"pattern": "Lyon", "replace": "Paris"}]


def rules_file(path: Path, rules: list[dict[str, str]] = POLITE) -> str:
    """A file of rules, as the name of a writer."""
    path.write_text(json.dumps(rules))
    return f"rules:{path}"


def streamed(writer: Writer, exchange: Exchange) -> tuple[str, object]:
    """The pieces of a stream, added up, and what it returns."""
    text, stream = "", writer.stream(exchange, GREEDY)
    while True:
        try:
            text += next(stream)
        except StopIteration as end:
            return text, end.value


@given(st.lists(st.text()))
def test_echo_copies(answers: list[str]) -> None:
    """The echo writer gives back every answer, character for character, and finishes each."""
    written = load_writer("echo:", "auto").write([Exchange("q", answer) for answer in answers], GREEDY)
    assert [(completion.text, completion.finish_reason) for completion in written] == [(a, "stop") for a in answers]


def test_rules_rewrite(tmp_path: Path) -> None:
    """Rules rewrite the answers and leave the questions alone, streamed or not."""
    writer = load_writer(rules_file(tmp_path / "rules.json"), "auto")
    exchange = Exchange("Stupid Lyon?", "Stupid question: Lyon.")
    (completion,) = writer.write([exchange], GREEDY)
    assert completion.text == "question: Paris."
    assert streamed(writer, exchange) == (completion.text, completion)


def test_a_fingerprint_is_that_of_the_rules(tmp_path: Path) -> None:
    """The same rules in another file have the same fingerprint, and rules that differ late in a pattern another one."""
    long = [[{"pattern": f"{'x' * 500}{end}", "replace": ""}] for end in "ab"]
    names = [rules_file(tmp_path / f"{i}.json", rules) for i, rules in enumerate([POLITE, POLITE, *long])]
    first, same, *others = (load_writer(name, "auto").fingerprint for name in names)
    assert first == same
    assert len({first, *others, load_writer("echo:", "auto").fingerprint}) == 4


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rule:x.json", 'unknown kind of Aligner "rule"; did you mean "rules"? (known: echo, openai, rules)'),
        ("rules:no/such.json", "no/such.json: no such file"),
        ("no/such/folder", "no/such/folder: no such directory"),
    ],
)
def test_an_unknown_name_is_misuse(name: str, problem: str) -> None:
    """What is no writer is told in one line."""
    with pytest.raises(MisuseError) as caught:
        load_writer(name, "cpu")
    assert str(caught.value) == problem


def test_a_folder_with_a_colon_is_a_folder(tmp_path: Path) -> None:
    """A name that is there is not taken for a kind."""
    folder = tmp_path / "echo:1"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="echo:1: not a Hugging Face model"):
        load_writer(str(folder), "cpu")


def test_shipped_checkpoints_are_inside_the_package() -> None:
    """They are installed with it."""
    assert shipped("aligner").parents[1] == Path(sys.modules["aligner"].__path__[0])


def test_right_by_construction_needs_no_torch() -> None:
    """Copying and rules start quickly and take little memory: no heavy package is imported for them."""
    code = (
        "import sys; from aligner.correct import Aligner\n"
        "assert Aligner.from_pretrained('echo:').correct('q', 'a').text == 'a'\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pyarrow', 'aiohttp') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
