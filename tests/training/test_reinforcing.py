"""Laws of learning from marks, on tiny random models."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model

from aligner.config import Lora
from aligner.config.bootstrapping import RLArm, Sampling
from aligner.errors import MisuseError, ModelError
from aligner.models.batched import stop_at
from aligner.models.generating import stops_of
from aligner.models.hf import load_causal_lm
from aligner.records import SamplingParams
from aligner.training.adapter import Fit, Progress
from aligner.training.adapter.reinforcing import Reward, reinforce
from aligner.training.adapter.reinforcing_answers import Ends
from aligner.training.prompts import Prompt, check_sampled

_HOW = RLArm(batch=16, samples=4, max_steps=20, learning_rate=1e-2, warmup=0.0, beta=0.02)
_SHORT = replace(_HOW, max_steps=10)
_SAMPLING = Sampling(max_tokens=6)
# Of several lengths, with a control token in the middle, and letters that an encoder would have put together.
_PROMPTS = [Prompt((1, *range(40, 44 + i % 3), 2, 60 + i % 20), 100 + i) for i in range(200)]

Way = Literal["rloo", "grpo"]


def _low(_: Sequence[int], __: Sequence[str], ids: Sequence[Sequence[int]]) -> list[float]:
    """The share of the answer's tokens in the lower half of the vocabulary."""
    return [sum(token < 150 for token in answer) / len(answer) for answer in ids]


class _Learnt(NamedTuple):
    model: Any
    told: list[Progress]
    weights: Path


def _learnt(  # each of the tests changes one
    base: Path,
    out: Path,
    how: RLArm = _HOW,
    *,
    way: Way = "rloo",
    reward: Reward = _low,
    prepare: Callable[[Any], Any] = lambda _: None,
    reference: Any = None,
    save_every: int = 100,
    **changes: Any,
) -> _Learnt:
    """What comes of the model in that folder, after it was prepared."""
    lm, told = load_causal_lm(base, "cpu"), list[Progress]()
    prepare(lm.model)
    plan = Fit(stage=how, folder=out, seed=3, save_every=save_every, on_progress=told.append, **changes)
    model = reinforce(
        lm.model, lm.tokenizer, _PROMPTS, plan, how, way=way, reward=reward, sampling=_SAMPLING, reference=reference
    )
    model.save_pretrained(out / "model")
    return _Learnt(model, told, out / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("way", ["rloo", "grpo"])
def test_marks_rise(base: Path, tmp_path: Path, way: Way) -> None:
    """It begins at the reference, is marked higher and higher, and leaves a plain model with weights of its own."""
    model, told, weights = _learnt(base, tmp_path / "out", way=way)
    assert told[0].extra["kl"] == 0
    assert told[-1].extra["kl"] != 0
    assert told[-1].extra["reward"] > told[0].extra["reward"] + 0.15
    assert (told[-1].step, told[-1].steps, told[-1].rows) == (20, 20, 320)
    assert load_file(weights).keys() == load_file(base / "model.safetensors").keys()
    copy, ids = deepcopy(model), torch.tensor([[1, 40, 41]])
    with torch.no_grad():
        copy.lm_head.weight.zero_()
        assert not copy(ids).logits.any()
        assert model(ids).logits.any()


def test_prompts_are_read_as_they_are_given(base: Path, tmp_path: Path) -> None:
    """The model and its reference read exactly the ids of each prompt, in the given order, and of each answer."""
    read, asked = list[list[int]](), list[tuple[int, tuple[int, ...]]]()

    def reward(numbers: Sequence[int], texts: Sequence[str], ids: Sequence[Sequence[int]]) -> list[float]:
        asked.extend(zip(numbers, map(tuple, ids), strict=True))
        return _low(numbers, texts, ids)

    def listen(model: Any) -> None:
        def hear(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            if model.training and len(inputs[0]) == _HOW.batch:
                read.extend(inputs[0].tolist())

        model.get_input_embeddings().register_forward_pre_hook(hear)

    how = replace(_HOW, max_steps=2)
    _learnt(base, tmp_path / "out", how, way="grpo", reward=reward, prepare=listen)
    assert [number for number, _ in asked] == [prompt.number for prompt in _PROMPTS[:8] for _ in range(4)]
    by_number = {prompt.number: prompt.ids for prompt in _PROMPTS}
    expected = [_without_padding([*by_number[number], *answer]) for number, answer in asked]
    assert sorted(map(_without_padding, read)) == sorted(expected * 2)
    assert len(set(asked)) > len(asked) // 2


def _without_padding(row: Sequence[int]) -> list[int]:
    return [token for token in row if token != 0]


@pytest.mark.parametrize("way", ["rloo", pytest.param("grpo", marks=pytest.mark.slow)])
def test_interruptions_change_nothing(base: Path, tmp_path: Path, way: Way) -> None:
    """Interrupted between checkpoints, it ends with the same bytes, and was held to the model that it began as."""
    calls = 0

    def fails_once(numbers: Sequence[int], texts: Sequence[str], ids: Sequence[Sequence[int]]) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise ConnectionError("the judge is gone")
        return _low(numbers, texts, ids)

    how = replace(_SHORT, batch=8, accumulate=2)
    undisturbed = _learnt(base, tmp_path / "undisturbed", how, way=way)
    with pytest.raises(ConnectionError):
        _learnt(base, tmp_path / "out", how, way=way, reward=fails_once, save_every=4)
    assert (tmp_path / "out" / "checkpoint-4" / "COMPLETE").exists()
    resumed = _learnt(base, tmp_path / "out", how, way=way, reward=fails_once, save_every=4)
    assert calls == 12
    assert resumed.weights.read_bytes() == undisturbed.weights.read_bytes()
    assert resumed.told[-1].extra["num_tokens"] == undisturbed.told[-1].extra["num_tokens"]


def test_the_reference_is_the_model_in_hand(base: Path, tmp_path: Path) -> None:
    """It is held to the model that is handed in, whatever lies in the folder where that was once read."""

    def change(model: Any) -> None:
        with torch.no_grad():
            model.lm_head.weight.mul_(2.0)

    _, told, _ = _learnt(base, tmp_path / "out", replace(_SHORT, max_steps=1), prepare=change)
    assert told[0].extra["kl"] == 0


@pytest.mark.parametrize("way", ["rloo", "grpo"])
def test_another_model_can_be_the_reference(base: Path, tmp_path: Path, way: Way) -> None:
    """Held to another model it is far from it when it begins; that one stays as it was, and can be used as before."""
    other = load_causal_lm(tiny_model(tmp_path / "other", seed=1), "cpu").model
    before = deepcopy(other.state_dict())
    _, told, _ = _learnt(base, tmp_path / "out", replace(_SHORT, max_steps=2), way=way, reference=other)
    assert told[0].extra["kl"] > 0.001
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    assert torch.equal(deepcopy(other)(torch.tensor([[1, 2]])).logits, other(torch.tensor([[1, 2]])).logits)


@pytest.mark.slow
def test_a_reference_may_be_loaded_for_it(base: Path, tmp_path: Path) -> None:
    """A function that loads it is called where there is need of a reference, and nowhere else."""
    other, calls = tiny_model(tmp_path / "other", seed=1), list[int]()

    def load() -> Any:
        calls.append(1)
        return load_causal_lm(other, "cpu").model

    how = replace(_SHORT, max_steps=1)
    _, told, _ = _learnt(base, tmp_path / "out", how, reference=load)
    assert told[0].extra["kl"] > 0.001
    _learnt(base, tmp_path / "free", replace(how, beta=0.0), reference=load)
    assert len(calls) == 1


def test_an_answer_ends_as_lessons_do(base: Path, tmp_path: Path) -> None:
    """Whatever token of the model's, or stop, ended an answer, its mark is that of what stands before, and the end."""
    lm, asked, texts = load_causal_lm(base, "cpu"), list[list[int]](), list[str]()
    lm.model.generation_config.eos_token_id = [*range(20, 80)]
    plan = Fit(stage=replace(_SHORT, max_steps=1), folder=tmp_path / "out", seed=3, save_every=10)

    def reward(_: Sequence[int], written: Sequence[str], ids: Sequence[Sequence[int]]) -> list[float]:
        asked.extend(map(list, ids))
        texts.extend(written)
        return [0.0 for _ in ids]

    def stops() -> Callable[[int], bool]:
        return lambda token: 80 <= token < 200

    how, end = replace(_SHORT, max_steps=1), lm.tokenizer.eos_token_id
    reinforce(lm.model, lm.tokenizer, _PROMPTS, plan, how, way="rloo", reward=reward, sampling=_SAMPLING, stops=stops)
    assert {20 <= token < 200 for answer in asked for token in answer} == {False}
    assert {len(answer) == _SAMPLING.max_tokens for answer in asked if answer[-1] != end} <= {True}
    assert sum(answer[-1] == end for answer in asked) > len(asked) / 2
    assert texts == lm.tokenizer.batch_decode(asked, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_a_stop_string_is_no_part_of_an_answer() -> None:
    """What is left out begins with the token in which the stop began; an answer without an end is as it was."""

    def stops() -> Callable[[int], bool]:
        told: list[int] = []

        def stop(token: int) -> bool:
            told.append(token)
            return told[-2:] == [7, 8]

        return stop

    ends = Ends(frozenset([1, 2]), 1, stops)
    found = [ends.as_taught(answer) for answer in ([5, 7, 8], [7, 7, 8], [7, 8], [5, 2], [5, 1], [2], [5, 7, 9])]
    assert found == [[5, 1], [7, 1], [1], [5, 1], [5, 1], [1], [5, 7, 9]]
    assert replace(ends, stops=None).as_taught([5, 7, 8]) == [5, 7, 8]


def test_without_a_chat_format_the_next_turn_is_no_part_of_an_answer(base: Path) -> None:
    """The strings that end an answer end it wherever letters are put together as tokens."""
    tokenizer = load_causal_lm(base, "cpu").tokenizer
    end, stop = tokenizer.eos_token_id, stops_of(tokenizer, SamplingParams())
    ends = Ends(frozenset([end]), end, partial(stop_at, tokenizer, stop))
    for answer in ("It is 8 \n User", "\nUse", ""):
        written = tokenizer(f"{answer}\nUser:", add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ends.as_taught(written), skip_special_tokens=True) == answer
        assert ends.as_taught(written)[-1] == end
        assert ends.as_taught(written[:-1]) == written[:-1]


def test_without_a_price_there_is_no_reference(base: Path, tmp_path: Path) -> None:
    """With beta at zero nothing is compared with a reference, and no divergence is told."""
    _, told, _ = _learnt(base, tmp_path / "out", replace(_SHORT, max_steps=1, beta=0.0))
    assert "kl" not in told[0].extra
    assert told[0].extra["completions/mean_length"] > 1


@pytest.mark.slow
def test_low_rank_adapters_are_merged(base: Path, tmp_path: Path) -> None:
    """The reference is the model without its adapters, so that it begins there; no adapter is left."""
    model, told, weights = _learnt(base, tmp_path / "out", _SHORT, lora=Lora(rank=2))
    assert told[0].extra["kl"] == 0
    assert told[-1].extra["kl"] != 0
    trained, before = load_file(weights), load_file(base / "model.safetensors")
    assert trained.keys() == before.keys()
    assert any(not torch.equal(trained[name], before[name]) for name in before if "q_proj" in name)
    assert "forward" not in vars(model)


def test_epochs_bound_the_steps(base: Path, tmp_path: Path) -> None:
    """All prompts are asked as often as epochs say, in their order; the last step is filled up with the first ones."""
    asked: list[int] = []

    def reward(numbers: Sequence[int], texts: Sequence[str], ids: Sequence[Sequence[int]]) -> list[float]:
        asked.extend(numbers[::4])
        return _low(numbers, texts, ids)

    lm, how = load_causal_lm(base, "cpu"), replace(_HOW, max_steps=0, epochs=1.5)
    plan = Fit(stage=how, folder=tmp_path / "out", seed=0, save_every=10)
    reinforce(lm.model, lm.tokenizer, _PROMPTS[:6], plan, how, way="rloo", reward=reward, sampling=_SAMPLING)
    assert asked == [*range(100, 106), *range(100, 106)]


@pytest.mark.parametrize(
    ("how", "sampling", "says"),
    [
        (replace(_HOW, batch=10), _SAMPLING, r"rl.batch = 10: .* choose a multiple of 4, as 8"),
        (replace(_HOW, batch=2), _SAMPLING, r"rl.batch = 2: .* as 4"),
        (replace(_HOW, samples=1), _SAMPLING, r"rl.samples = 1: .* choose 2 or more"),
        (_HOW, Sampling(temperature=0.0), r"sampling.temperature = 0: .* above 0"),
        (_HOW, Sampling(max_tokens=0), r"sampling.max_tokens = 0: .* 1 or more"),
    ],
)
def test_settings_must_go_together(how: RLArm, sampling: Sampling, says: str) -> None:
    """Settings with which no answer can be compared with another are refused, with what to choose in their place."""
    with pytest.raises(MisuseError, match=says):
        check_sampled(how, sampling)


def test_a_prompt_must_leave_room(base: Path, tmp_path: Path) -> None:
    """A prompt that fills the context is refused by its number before anything is learnt; so are none at all."""
    lm, plan = load_causal_lm(base, "cpu"), Fit(stage=_HOW, folder=tmp_path / "out", seed=0, save_every=10)
    for prompts, says in (([Prompt((5,) * 256, 7)], "prompt 7 has 256 tokens"), ([], "no prompts")):
        with pytest.raises(MisuseError, match=says):
            reinforce(lm.model, lm.tokenizer, prompts, plan, _HOW, way="rloo", reward=_low, sampling=_SAMPLING)
    assert not list(tmp_path.glob("out/checkpoint-*"))


def test_a_mark_must_be_a_number(base: Path, tmp_path: Path) -> None:
    """A mark that is no number ends it with the prompt's number: TRL would leave the answer out without a word."""

    def broken(numbers: Sequence[int], *_: object) -> list[float]:
        return [float("nan") if number == 102 else 0.0 for number in numbers]

    with pytest.raises(ModelError, match="an answer to prompt 102 is no finite number"):
        _learnt(base, tmp_path / "out", reward=broken)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["rloo", "grpo"])
def test_kills_change_nothing(base: Path, tmp_path: Path, way: Way) -> None:
    """Killed in the middle, also with its newest checkpoint torn, the same call ends with the same bytes."""
    undisturbed = _learnt(base, tmp_path / "undisturbed", _LONG, way=way)
    for torn in (False, True):
        out = tmp_path / f"killed-{torn}"
        newest = _killed(base, out, way)
        if torn:
            (newest / "model.safetensors").write_bytes(b"torn")
        assert _learnt(base, out, _LONG, way=way, save_every=4).weights.read_bytes() == undisturbed.weights.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["rloo", "grpo"])
def test_processes_share_a_step(base: Path, tmp_path: Path, way: Way) -> None:
    """Two processes with half of the batches of a step each learn the same as one with all of them."""
    one = _learnt(base, tmp_path / "one", _SHARED, way=way)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", __file__, str(base)]
    command += [str(tmp_path / "two"), way, "shared"]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    trained, other = load_file(one.weights), load_file(tmp_path / "two" / "model" / "model.safetensors")
    assert all(torch.allclose(trained[name], other[name], atol=1e-4) for name in trained)


_LONG = replace(_HOW, max_steps=24)
_SHARED = replace(_HOW, accumulate=2, max_steps=3, learning_rate=1e-3)


def _killed(base: Path, out: Path, way: Way) -> Path:
    """Run it as a program, kill it behind its second checkpoint, and give the newest whole one."""
    command = [sys.executable, __file__, str(base), str(out), way, "long"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=_environment())
    while process.poll() is None and len(list(out.glob("checkpoint-*/COMPLETE"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return max(out.glob("checkpoint-*/COMPLETE"), key=lambda path: path.stat().st_mtime_ns).parent


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _main(base: str, out: str, way: Any, length: str) -> None:
    _learnt(Path(base), Path(out), _LONG if length == "long" else _SHARED, way=way, save_every=4)


if __name__ == "__main__":
    _main(*sys.argv[1:])
