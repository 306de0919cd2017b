"""A Hugging Face causal language model in this process."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from aligner.config import Device
from aligner.errors import CheckpointError, MisuseError, ModelError
from aligner.models.generating import generate
from aligner.records import Completion, Message, SamplingParams

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SECONDS_TO_REACH_THE_HUB = 10.0
WITHOUT_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.txt")
"""patterns of the files that say what a model is and how it reads"""


class CausalLM(NamedTuple):
    """A model, ready to decode, and its tokenizer."""

    model: Any
    tokenizer: Any


class Unweighted(NamedTuple):
    """All of a model but its weights."""

    config: Any
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class HFModel:
    """Decodes one conversation at a time, in a thread, so that the event loop stays free."""

    name: str
    lm: CausalLM = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> Completion:
        """The model's answer; ModelError when the conversation does not fit its context."""
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._write, messages, sampling, show=_ignore, cancelled=cancelled)
        finally:
            cancelled.set()

    async def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> AsyncIterator[str]:
        """The same, as it is written; decoding ends when the reader stops."""
        loop, pieces, cancelled = asyncio.get_running_loop(), asyncio.Queue[str | None](), threading.Event()

        def show(piece: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def write() -> None:
            try:
                self._write(messages, sampling, show=show, cancelled=cancelled)
            finally:
                show(None)

        writing = asyncio.create_task(asyncio.to_thread(write))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await writing
        finally:
            cancelled.set()
            writing.cancel()
            await asyncio.wait([writing])

    def _write(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams,
        *,
        show: Callable[[str], None],
        cancelled: threading.Event,
    ) -> Completion:
        try:
            with self._lock:
                return generate(*self.lm, messages, sampling=sampling, show=show, cancelled=cancelled)
        except RuntimeError as error:  # a ModelError is one too, and so are torch's errors, also when memory runs out
            raise ModelError(f"{self.name}: {_first_line(error)}") from error


def load(name: str) -> HFModel:
    """The model `hf:PATH_OR_HUB_ID`; raises what `load_causal_lm` raises."""
    if not name:
        raise MisuseError('"hf:" needs a directory or a hub id: hf:PATH_OR_HUB_ID')
    return HFModel(name, load_causal_lm(name))


def load_causal_lm(path: Path | str, device: Device = "auto", *, dtype: torch.dtype | None = None) -> CausalLM:
    """A causal language model and its tokenizer, from a local directory or the hub.

    Its weights are read as `dtype`, or else as float32 for a CPU and as bfloat16 for a GPU, which drops what a float32
    checkpoint holds beyond that. Raises MisuseError for a name that leads nowhere, ModelError when the hub cannot be
    reached, and CheckpointError for a directory that holds no such model, or a damaged one.
    """
    where = torch_device(device)
    source = _source(str(path))
    read_as = dtype or (torch.float32 if where.type == "cpu" else torch.bfloat16)
    options: dict[str, Any] = {"local_files_only": isinstance(source, Path), "trust_remote_code": False}
    logging.disable_progress_bar()
    try:
        tokenizer = cast("Any", AutoTokenizer).from_pretrained(source, **options)
        load_model = cast("Any", AutoModelForCausalLM).from_pretrained
        model, info = load_model(source, dtype=read_as, output_loading_info=True, **options)
    # Whatever is wrong in a folder comes out of the libraries as errors of many classes, also their own.
    except Exception as error:
        raise CheckpointError(f"{path}: not a causal language model, or a damaged one: {_first_line(error)}") from error
    _check_whole(str(path), model, tokenizer, missing=info["missing_keys"])
    for how_it_was_loaded in ("is_local", "local_files_only"):
        # Saved along, they would make a copy differ from its original.
        tokenizer.init_kwargs.pop(how_it_was_loaded, None)
    return CausalLM(model.to(where).eval(), tokenizer)


def local_folder(name: str, files: Sequence[str] | None = None) -> Path:
    """The folder of a model's files: a local directory, or where those of a hub id are kept; fetched if need be.

    Only files of these patterns are fetched, or all.
    """
    source = _source(name)
    if isinstance(source, Path):
        return source
    import huggingface_hub as hub

    return Path(cast("Any", hub).snapshot_download(source, allow_patterns=files))


def load_without_weights(folder: Path) -> Unweighted:
    """What a folder says of its model without the weights; raises CheckpointError for a damaged one."""
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config, tokenizer = (
            cast("Any", kind).from_pretrained(folder, **options) for kind in (AutoConfig, AutoTokenizer)
        )
        return Unweighted(config, tokenizer)
    # As for the weights: errors of many classes.
    except Exception as error:
        problem = f"no configuration and tokenizer of a model, or damaged ones: {_first_line(error)}"
        raise CheckpointError(f"{folder}: {problem}") from error


def torch_device(device: Device) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise MisuseError('device "cuda": no GPU can be used here; choose "cpu" or "auto"')
    return torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")


def _check_whole(path: str, model: Any, tokenizer: Any, *, missing: Sequence[str]) -> None:
    """Weights that a folder lacks would be made up at random."""
    if missing:
        raise CheckpointError(f'{path}: {len(missing)} of the model\'s weights are missing, such as "{min(missing)}"')
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise CheckpointError(f"{path}: the tokenizer has {len(tokenizer)} tokens, but the model only {rows}")


def _source(name: str) -> Path | str:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise CheckpointError(f"{name}: not a Hugging Face model: it has no config.json")
        return folder
    if folder.exists() or not _HUB_ID.fullmatch(name):
        raise MisuseError(f"{name}: no such directory")
    return _hub_source(name)


def _hub_source(name: str) -> Path | str:
    """Asks the hub once, as its own client would try for a minute; without the hub, what an earlier use left behind."""
    import huggingface_hub as hub
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        hub.HfApi().model_info(name, timeout=_SECONDS_TO_REACH_THE_HUB)
    except RepositoryNotFoundError as error:
        raise MisuseError(f'"{name}" is no local directory, and no model on the hub that you may read') from error
    except Exception as error:  # noqa: BLE001  # of whichever network library the hub's client stands on
        reason = _first_line(error)
    else:
        return name
    try:
        return Path(cast("Any", hub).snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ModelError(f'"{name}" is no local directory, and the hub cannot be reached: {reason}') from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _ignore(_: str) -> None:
    return None
