"""Laws of a study's folder: one process, one study, and questions that are measured are never asked in training."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from tiny import tiny_aligner, tiny_model

from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.study import Study
from aligner.config import (
    BootstrapArm,
    BootstrapConfig,
    BootstrapGuards,
    BootstrapMix,
    Lora,
    PairGate,
    Sampling,
    SFTArm,
    read_config,
)
from aligner.correcting.writers import shipped
from aligner.errors import CheckpointError, MisuseError
from aligner.files import write_rows

CONFIG = BootstrapConfig(upstream="demo", prompts="world:60", held_out="world:20", judge="world:")


def study_of(folder: Path, **settings: Any) -> Study:
    """A study of the closed world."""
    return Study(replace(CONFIG, out=folder / "study", **settings))


def refused(folder: Path, **settings: Any) -> str:
    """The one line that a study is refused with."""
    with pytest.raises(MisuseError) as caught, study_of(folder, **settings):
        pass
    line = str(caught.value)
    assert "\n" not in line
    return line


def questions(path: Path, *texts: str) -> str:
    """A file of questions."""
    write_rows(path, ({"question": text} for text in texts))
    return str(path)


def begin(folder: Path, **settings: Any) -> bytes:
    """A study of which a step is done; what its folder says of it."""
    with study_of(folder, **settings) as study:
        study.first(0).step("held_out", {}, lambda place: place.path.write_text("{}"))
    return (folder / "study/config.toml").read_bytes()


def many(*texts: str) -> list[str]:
    """Those questions, and as many more as a study needs."""
    return [*texts, *(f"Who lives in house {number}?" for number in range(20))]


def test_a_study_has_a_folder_for_each_round(tmp_path: Path) -> None:
    """Round 0 is shared by the arms, later rounds lie under their arm and their seed."""
    with study_of(tmp_path, seeds=(3,)) as study:
        folders = [study.first(3).folder, study.round(CONFIG.arms[0], 3, 2).folder, study.round("b", 3, 12).folder]
        assert study.upstream(3) == shipped("upstream")
    names = ["first/seed-3", "sft/seed-3/round-02", "b/seed-3/round-12"]
    assert folders == [tmp_path / "study" / name for name in names]
    assert read_config(BootstrapConfig, tmp_path / "study/config.toml") == replace(study.config, stage="run")


def test_rounds_ask_other_prompts_and_the_same_again(tmp_path: Path) -> None:
    """What a round asks depends on its seed and its number alone, and none of it is held out."""
    with study_of(tmp_path, prompts_per_round=10, seeds=(0, 1)) as study:
        asked = [study.prompts(seed, number) for seed in (0, 1) for number in (1, 2)]
        held_out = study.held_out
    with study_of(tmp_path, prompts_per_round=10, seeds=(0, 1)) as study:
        assert [study.prompts(seed, number) for seed in (0, 1) for number in (1, 2)] == asked
        assert study.held_out == held_out
    assert [len(one) for one in asked] == [10] * 4
    assert not {*asked[0]} & {*asked[1]}
    assert len({tuple(one) for one in asked}) == 4
    assert not {*held_out} & {question for one in asked for question in one}


def test_what_is_held_out_is_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts that are held out are left out and counted; where none are left, that is said."""
    held_out = questions(tmp_path / "held_out.jsonl", *many("Why is the sky blue?", "Who was first?"))
    prompts = questions(tmp_path / "prompts.jsonl", "why is the sky blue", "Who was last?")
    with study_of(tmp_path, prompts=prompts, held_out=held_out, judge="refusal:") as study:
        assert study.prompts(0, 1) == ["Who was last?"]
    assert "1 of 2 prompts left out, for what is held out: same question" in capsys.readouterr().err
    assert "nothing is left to ask" in refused(tmp_path / "b", prompts=held_out, held_out=held_out, judge="refusal:")


def test_too_few_held_out_questions_are_refused(tmp_path: Path) -> None:
    """An interval of fewer than 20 says nothing; questions that are said twice count once."""
    held_out = questions(tmp_path / "held_out.jsonl", *many()[:19], many()[0])
    line = refused(tmp_path, held_out=held_out, judge="refusal:")
    assert "--held-out" in line
    assert "has 19 questions that differ; at least 20 are needed" in line
    assert "has 5 questions" in refused(tmp_path, held_out="world:5")


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"judge": "world:"}, "--judge world:: the closed world has no such question"),
        ({"judge": "refusal:", "oracle": "world"}, '--oracle world: the closed world has no such question: "Who lives'),
        ({"judge": "refusal:", "audit_judge": "world:"}, "--audit-judge world:: the closed world has no such question"),
    ],
)
def test_what_the_closed_world_cannot_mark_is_told_at_once(
    tmp_path: Path, settings: Mapping[str, Any], refusal: str
) -> None:
    """Its oracle would fail at the first question that it does not know, after hours."""
    asked = questions(tmp_path / "asked.jsonl", *many())
    others = "world:60" if settings.get("oracle") else questions(tmp_path / "others.jsonl", "Who are you?")
    assert refusal in refused(tmp_path, held_out=asked, prompts=others, **settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"upstream": ""}, "--upstream is missing: say who is taught"),
        ({"prompts": ""}, "--prompts is missing: say what is asked"),
        ({"held_out": ""}, "--held-out is missing: say on what it is measured"),
        ({"judge": ""}, "--judge is missing: say who decides"),
        ({"rounds": 0}, "--rounds is 0; it must be at least 1"),
        ({"passes": 0}, "--passes is 0"),
        ({"audit": -1}, "--audit is -1; it must be at least 0"),
        ({"aligners": ()}, "nobody would correct"),
        ({"seeds": (1, 1)}, "--seeds are one or more numbers that differ"),
        ({"seeds": ()}, "--seeds are one or more numbers that differ"),
        ({"upstream": "./upstream-{seed}", "seeds": (7,)}, "--upstream ./upstream-7: no such directory"),
        ({"rounds": 1000}, "--rounds is 1000; it must be at most 999"),
        ({"max_length": 1}, "--max-length is 1; it must be at least 2"),
        ({"max_overlap": 65}, "--max-overlap is a number of words from 1 to 64"),
        ({"aligner_gate": 1.5}, "--aligner-gate is 1.5; it must be from 0 to 1"),
        ({"seeds": (-1,)}, "--seeds: -1 is none; each is from 0 to 4,294,966"),
        ({"seeds": (2**32,)}, "--seeds: 4294967296 is none"),
        ({"sampling": Sampling(temperature=-1.0)}, "--sampling.temperature is -1; it must be at least 0"),
        ({"sampling": Sampling(temperature=float("nan"))}, "--sampling.temperature is nan; it must be at least 0"),
        ({"sampling": Sampling(top_p=0.0)}, "--sampling.top-p is 0; it must be more than 0"),
        ({"sampling": Sampling(top_p=1.5)}, "--sampling.top-p is 1.5; it must be from 0 to 1"),
        ({"sampling": Sampling(top_k=-1)}, "--sampling.top-k is -1; it must be at least 0"),
        ({"sampling": Sampling(max_tokens=0)}, "--sampling.max-tokens is 0; it must be at least 1"),
        ({"gate": PairGate(qualities=())}, "--gate.qualities are one or more that differ"),
        ({"gate": PairGate(min_edit=2)}, "--gate.min-edit is 2; it must be from 0 to 1"),
        ({"mix": BootstrapMix(earlier=-0.1)}, "--mix.earlier is -0.1; it must be at least 0"),
        ({"mix": BootstrapMix(original_share=0.1)}, "--mix.original-share is 0.1, but of what? Give --mix.original"),
        ({"mix": BootstrapMix(original=Path("none.jsonl"))}, "none.jsonl: no such file"),
        ({"guards": BootstrapGuards(kl=-1)}, "--guards.kl is -1; it must be at least 0"),
        ({"guards": BootstrapGuards(patience=-1)}, "--guards.patience is -1; it must be at least 0"),
        ({"guards": BootstrapGuards(shortest=2)}, "--guards.shortest is 2, more than --guards.longest, 1.5"),
        ({"lora": Lora(rank=8, bits=4)}, "--lora.bits is 4: an upstream is taught in full precision"),
        ({"lora": Lora(rank=-1)}, "--lora.rank is -1; it must be at least 0"),
        ({"prompts": "none.jsonl"}, "none.jsonl: no such file"),
        ({"held_out": "."}, ".: is a folder, not a file"),
        ({"aligners": ("./none",)}, "--aligners ./none: no such directory"),
        ({"aligners": ("rules:none.json",)}, "--aligners rules:none.json: no such file"),
        ({"aligners": ("rule:none.json",)}, 'unknown kind of Aligner "rule"; did you mean "rules"?'),
        ({"judge": "wrld:"}, 'unknown judge "wrld:"; did you mean "world:"?'),
        ({"judge": "openai"}, 'unknown judge "openai"'),
        ({"judge": "truth:none"}, "the judge truth:none: no such directory"),
        ({"judge": "reward:./none?quality=honest"}, "the judge reward:./none?quality=honest: no such directory"),
        ({"judge": "openai:m", "audit_judge": "openai:m?x=1"}, "--audit-judge openai:m?x=1: is the judge itself"),
        ({"audit_judge": "world:"}, "--audit-judge world:: is the judge itself"),
        (
            {"judge": "openai:m", "audit_judge": "published:openai:m"},
            "--audit-judge published:openai:m: is the judge itself",
        ),
        ({"judge": "openai:m", "aligners": ("openai:m",)}, "--judge openai:m: who corrects cannot be who judges"),
        ({"judge": f"hf:{shipped('aligner')}"}, "who corrects cannot be who judges"),
        ({"prompts": "world:none"}, '"world:none": say how many questions'),
    ],
)
def test_settings_that_cannot_be_meant_are_one_clear_line(
    tmp_path: Path, settings: Mapping[str, Any], problem: str
) -> None:
    """The flag, what it is, and what it would have to be; the folder is free again."""
    assert problem in refused(tmp_path, **settings)
    with study_of(tmp_path):
        pass


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"guards": BootstrapGuards(kl=2.0)}, "guards.kl was 1.0, now 2.0"),
        ({"arms": (BootstrapArm(name="sft", accept="always"),)}, 'arm "sft": accept was guarded, now always'),
        (
            {"arms": (BootstrapArm(name="sft", sft=SFTArm(warmup=0.2)),)},
            'arm "sft": sft.warmup was 0.03, now 0.2',
        ),
        ({"mix": BootstrapMix(earlier=0.3)}, "mix.earlier was 0.2, now 0.3"),
        ({"prompts": "world:61"}, "prompts was world:60, now world:61"),
        ({"passes": 2, "aligners": ("echo:",)}, "aligners was ['demo'], now ['echo:']; passes was 1, now 2"),
    ],
)
def test_a_folder_holds_one_study(tmp_path: Path, settings: Mapping[str, Any], problem: str) -> None:
    """With anything else that decides what is found, the folder is refused, and says what differs."""
    before = begin(tmp_path)
    line = refused(tmp_path, **settings)
    assert f"the folder holds another study ({problem}); choose another --out" in line
    assert (tmp_path / "study/config.toml").read_bytes() == before


@pytest.mark.parametrize(
    "mistake", [{"prompts": "world:none"}, {"oracle": "world", "held_out": "h"}, {"upstream": "x"}]
)
def test_a_mistake_does_not_lock_anybody_out(tmp_path: Path, mistake: Mapping[str, Any]) -> None:
    """What a study is refused for is not written down, and until a step is done its settings may change."""
    held_out = questions(tmp_path / "h.jsonl", *many())
    (tmp_path / "x").mkdir()
    paths = {"h": held_out, "x": str(tmp_path / "x")}
    with pytest.raises((MisuseError, CheckpointError)):
        study_of(tmp_path, **{name: paths.get(value, value) for name, value in mistake.items()}).__enter__()
    assert [path.name for path in (tmp_path / "study").iterdir()] == [".lock"]
    for guards in (BootstrapGuards(kl=2.0), BootstrapGuards()):
        with study_of(tmp_path, guards=guards, prompts="world:60" if guards.kl == 1 else "world:61") as study:
            assert read_config(BootstrapConfig, tmp_path / "study/config.toml") == study.known


def test_a_foreign_configuration_is_left_alone(tmp_path: Path) -> None:
    """Where something else keeps a config.toml, no study begins."""
    path = tmp_path / "study" / "config.toml"
    path.parent.mkdir()
    path.write_text('triples = "a"')
    assert "unknown key in" in refused(tmp_path)
    assert path.read_text() == 'triples = "a"'


def test_a_study_keeps_what_is_written_beside_its_settings(tmp_path: Path) -> None:
    """A configuration that says the same, such as the user's own with remarks, is not written anew."""
    text = f'# ours\nout = "{tmp_path}/study"\nupstream = "demo"\njudge = "world:"\n'
    path = tmp_path / "study" / "config.toml"
    path.parent.mkdir()
    path.write_text(f'{text}prompts = "world:60"\nheld_out = "world:20"\n')
    assert begin(tmp_path).startswith(b"# ours")
    assert begin(tmp_path).startswith(b"# ours")
    assert not begin(tmp_path, rounds=4).startswith(b"# ours")


def test_how_far_and_where_a_study_goes_may_change(tmp_path: Path) -> None:
    """Rounds may be raised, and arms and seeds added; those that are not named this time stay known."""
    dpo = BootstrapArm(name="dpo.b", way="dpo")
    begin(tmp_path)
    with study_of(tmp_path, rounds=5, arms=(dpo,), seeds=(1,), device="cpu", batch=2, save_every=7):
        pass
    with study_of(tmp_path, rounds=1, arms=(dpo,), seeds=(1,)) as study:
        known, wanted = study.known, study.config
    assert (wanted.rounds, wanted.arms, wanted.seeds) == (1, (dpo,), (1,))
    assert (known.rounds, known.batch, known.arms, known.seeds) == (5, 64, (*CONFIG.arms, dpo), (0, 1))
    assert read_config(BootstrapConfig, tmp_path / "study/config.toml") == known
    changed = refused(tmp_path, arms=(replace(dpo, reference="first"),))
    assert 'arm "dpo.b": reference was previous, now first' in changed
    assert 'two arms have the name "SFT"' in refused(tmp_path, arms=(BootstrapArm(name="SFT"),))


def test_questions_that_change_under_a_study_are_refused(tmp_path: Path) -> None:
    """A question that was learnt from must not be measured on later: the files' contents are the study's, too."""
    prompts = questions(tmp_path / "prompts.jsonl", "What is it?", "Who was it?")
    begin(tmp_path, prompts=prompts, judge="refusal:")
    questions(tmp_path / "prompts.jsonl", "What is it?", "Who is it?")
    assert "--prompts has other questions now; bring back" in refused(tmp_path, prompts=prompts, judge="refusal:")
    questions(tmp_path / "prompts.jsonl", "What is it?", "Who was it?")
    with study_of(tmp_path, prompts=prompts, judge="refusal:", rounds=4):
        pass


def test_models_that_change_under_a_study_are_refused(tmp_path: Path) -> None:
    """Another upstream, Aligner or judge under the same name is told before any step, and by its setting."""
    upstream, aligner = tiny_model(tmp_path / "upstream"), tiny_aligner(tmp_path / "aligner")
    judge, second = tiny_model(tmp_path / "judge"), tiny_model(tmp_path / "second", seed=1)
    original = Path(questions(tmp_path / "original.jsonl", "Who?"))
    settings: dict[str, Any] = {
        "upstream": str(upstream),
        "aligners": ("demo", str(aligner), "openai:m"),
        "judge": f"reward:{judge}?quality=honest",
        "audit_judge": f"published:hf:{second}",
        "mix": BootstrapMix(original=original),
    }
    begin(tmp_path, **settings)
    with study_of(tmp_path, **settings) as study:
        stamps = study.stamps
    assert stamps["aligner 2"] == "openai:m"
    assert stamps["judge"].startswith(f"reward:{judge}?quality=honest ")
    assert len({*stamps.values()}) == len(stamps) == 7
    changes = {
        upstream / "chat_template.jinja": "--upstream is another model now (upstream 0)",
        aligner / "model.safetensors": "--aligners has another model now (aligner 1)",
        aligner / "aligner.json": "--aligners has another model now (aligner 1)",
        judge / "config.json": "--judge is another model now; bring back what the study began with",
        second / "model.safetensors": "--audit-judge is another model now",
        original: "--mix.original has other rows now",
    }
    for path, problem in changes.items():
        before = path.read_bytes() if path.exists() else None
        path.write_bytes((before or b"") + b" ")
        assert problem in refused(tmp_path, **settings)
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
    with study_of(tmp_path, **settings) as study:
        assert study.stamps == stamps


def test_a_folder_that_is_no_aligner_is_told_at_once(tmp_path: Path) -> None:
    """A model without the card of an Aligner would correct nothing, after hours."""
    with pytest.raises(CheckpointError, match="not an Aligner"):
        study_of(tmp_path, aligners=(str(tiny_model(tmp_path / "plain")),)).__enter__()


def test_each_seed_has_its_upstream(tmp_path: Path) -> None:
    """{seed} stands for the seed, and a folder that holds no model is told at once."""
    tiny_model(tmp_path / "up-0")
    (tmp_path / "up-1").mkdir()
    with study_of(tmp_path, upstream=f"{tmp_path}/up-{{seed}}") as study:
        assert study.upstream(0) == tmp_path / "up-0"
    with pytest.raises(ValueError, match=r"up-1: not a Hugging Face model"):
        study_of(tmp_path / "b", upstream=f"{tmp_path}/up-{{seed}}", seeds=(0, 1)).__enter__()


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is refused in one line as long as the first is there, and not after it was killed."""
    code = (
        "import sys; from pathlib import Path; from aligner.config import BootstrapConfig, read_config\n"
        "from aligner.bootstrapping.study import Study\n"
        "with Study(read_config(BootstrapConfig, Path(sys.argv[1]))):\n    print('held', flush=True); sys.stdin.read()"
    )
    with study_of(tmp_path) as study:
        command = [sys.executable, "-c", code, str(study.folder / "config.toml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert "another process works on this study; wait for it, or choose another --out" in refused(tmp_path)
        other.kill()
    with study_of(tmp_path):
        pass


def test_arms_share_what_they_have_in_common(tmp_path: Path) -> None:
    """A step of the same inputs in another arm, or in round 0, is the same file; what is made later is found, too."""
    made = list[str]()

    def make(place: Place) -> None:
        made.append(place.path.name)
        place.path.write_bytes(orjson.dumps({}))

    with study_of(tmp_path) as study:
        first = study.first(0).step("held_out", {"upstream": "a"}, make)
        again = study.round("sft", 0, 1).step("held_out", {"upstream": "a"}, make)
        study.round("sft", 0, 1).step("answers", {"seed": 1}, make)
        study.round("dpo", 0, 1).step("answers", {"seed": 1}, make)
    assert made == ["held_out.jsonl", "answers.jsonl"]
    assert first.path.samefile(again.path)
