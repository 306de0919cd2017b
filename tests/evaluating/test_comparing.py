"""Laws of comparing reports, and of the bars that a run has to clear."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from reported import provenance, reported, world_cases

from aligner.errors import InputFileError
from aligner.evaluating.comparing import Comparison, compare, missed_bars, show_comparison
from aligner.evaluating.content import Report
from aligner.evaluating.evidence import weigh
from aligner.evaluating.report import write_report


def kept(folder: Path, report: Report) -> Path:
    """The report.json of a report."""
    folder.mkdir()
    write_report(folder, report)
    return folder / "report.json"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One that mends, and one that breaks every second answer, of two upstreams each."""
    folder = tmp_path_factory.mktemp("compared")
    good = reported(world_cases("careless", "timid", count=28, breaks=0))
    bad = reported(world_cases("careless", "surly", count=28, breaks=2), provenance=provenance(fingerprint="bad"))
    return kept(folder / "good", good), kept(folder / "bad", bad)


def test_a_report_equals_itself(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """No figure differs, and nothing got worse."""
    comparison = compare(two[0], two[0])
    assert {compared.verdict for compared in comparison.compared} == {"same"}
    assert [*comparison.only_old, *comparison.only_new, *comparison.differences, *comparison.worse] == []
    show_comparison(comparison)
    assert "Nothing got worse beyond its interval." in capsys.readouterr().out


def test_each_figure_is_held_against_its_own(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """What is in both is compared, the rest is counted; what got worse comes first and is named."""
    comparison = compare(*two)
    assert {compared.new.upstream for compared in comparison.compared} == {"careless"}
    assert len([figure for figure in comparison.only_old if figure.upstream == "timid"]) > 10
    assert len([figure for figure in comparison.only_new if figure.upstream == "surly"]) > 10
    assert comparison.differences == ("fingerprint: f00 before, bad now",)
    found = {(compared.new.quality, compared.new.name): compared for compared in comparison.compared}
    gain = found["", "gain"]
    assert gain.verdict == "worse"
    assert gain.difference == gain.new.value - gain.old.value < 0
    assert gain.overlaps is False
    assert found["", "broken"].difference > 0
    assert found["", "right before"].verdict == "same"
    show_comparison(comparison)
    out = capsys.readouterr().out
    assert out.index("worse") < out.index("stand in the new report alone")
    assert "Worse: " in out
    assert "careless, world, gain" in out


def test_back_is_the_other_way(two: tuple[Path, Path]) -> None:
    """What got worse one way got better the other, by as much."""
    there, back = compare(*two), compare(*reversed(two))
    opposite = {"worse": "better", "perhaps worse": "perhaps better", "same": "same", "changed": "changed"}
    opposite |= {better: worse for worse, better in opposite.items()}

    def verdicts(comparison: Comparison) -> dict[tuple[object, ...], tuple[str, float]]:
        return {compared.new[:6]: (compared.verdict, compared.difference) for compared in comparison.compared}

    assert {key: (opposite[verdict], -by) for key, (verdict, by) in verdicts(there).items()} == verdicts(back)


def test_what_overlaps_may_be_chance(tmp_path: Path) -> None:
    """One answer more or less of a few is no verdict."""
    cases = list(world_cases("careless", count=20, breaks=0))
    spoilt = [
        replace(case, correction="No.", after=case.before) if place == 3 else case for place, case in enumerate(cases)
    ]
    comparison = compare(kept(tmp_path / "old", reported(cases)), kept(tmp_path / "new", reported(spoilt)))
    assert not comparison.worse
    assert "perhaps worse" not in {compared.verdict for compared in comparison.compared if not compared.difference}


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"judged": 3}', b'{"marked": [], "judged": [{}]}'])
def test_any_other_file_is_refused_in_one_line(two: tuple[Path, Path], tmp_path: Path, content: bytes | None) -> None:
    """The message names the file."""
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputFileError, match=r"report\.json: ") as error:
        compare(two[0], path)
    assert "\n" not in str(error.value)


def test_bars_are_missed_one_line_each() -> None:
    """A net rate below the bar, more broken answers than allowed, and what nobody measured."""
    bad = weigh(list(world_cases("careless", "surly", count=20, breaks=2)))
    good = weigh(list(world_cases("careless", count=20, breaks=0)))
    broken = sum(row.pairs.broken for row in bad.marked)
    assert missed_bars(bad, min_net=None, max_broken=None) == []
    assert missed_bars(good, min_net=0.0, max_broken=0) == []
    assert missed_bars(bad, min_net=None, max_broken=broken) == []
    [line] = missed_bars(bad, min_net=None, max_broken=broken - 1)
    assert line.startswith(f"{broken} answers broken, more than {broken - 1} (")
    below = missed_bars(bad, min_net=1.0, max_broken=None)
    assert len(below) == len(bad.judged)
    assert all("\n" not in line and "below +100.0 %" in line for line in below)
    unmeasured = bad._replace(judged=(), marked=())
    assert len(missed_bars(unmeasured, min_net=-1.0, max_broken=9)) == 2


def test_a_report_from_json_is_plain_json(two: tuple[Path, Path]) -> None:
    """Its keys are sorted, so that a diff of two reports shows what changed."""
    text = two[0].read_bytes()
    options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    assert orjson.dumps(orjson.loads(text), option=options) == text
