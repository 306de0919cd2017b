"""One frozen dataclass per verb: its fields are the flags, their defaults and their help.

A value comes from the default, then from the TOML file named by `--config`, then from the flag.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from aligner.errors import MisuseError, unknown

T = TypeVar("T")

OnBadRow = Literal["stop", "skip"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A small model made from nothing: a Llama with a byte-level BPE vocabulary learnt from the triples."""

    layers: int = 4
    """number of layers"""
    width: int = 128
    """size of a hidden state"""
    heads: int = 4
    """attention heads"""
    inner: int = 352
    """size inside the feed-forward part"""
    vocabulary: int = 2048
    """tokens at the most"""
    context: int = 512
    """longest prompt and correction together, in tokens"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """How one stage learns."""

    learning_rate: float = 2e-5
    """peak learning rate"""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """how the learning rate falls after warm-up"""
    warmup: float = 0.03
    """share of the steps over which the learning rate rises"""
    weight_decay: float = 0.0
    """AdamW's weight decay"""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's betas"""
    clip: float = 1.0
    """largest gradient norm"""
    batch: int = 4
    """rows a step on one device"""
    accumulate: int = 8
    """batches whose gradients are added up to one step"""
    epochs: float = 3.0
    """passes over the rows"""
    max_steps: int = 0
    """at most so many steps; 0 leaves it to the epochs"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStage(Optimisation):
    """Stage one: learn to copy (paper, section 3.1: the identity Aligner)."""

    share: float = 0.2
    """share of the training rows whose answer is copied"""
    random: int = 0
    """rows of random tokens to copy before the answers; only a model made from nothing needs them"""
    until: float = 0.98
    """stop when this share of held-out answers is copied exactly"""
    check_every: int = 50
    """steps between two looks at the held-out answers"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionStage(Optimisation):
    """Stage two: learn to correct, on all of the triples."""

    random_share: float = 0.0
    """rows of random tokens to copy among the triples, as a share of them"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters instead of full training; merged when saved."""

    rank: int = 0
    """rank of the adapters; 0 trains all weights"""
    alpha: int = 32
    """scale of the adapters"""
    dropout: float = 0.0
    """dropout inside the adapters"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """aligner train: triples in, checkpoint out."""

    triples: Path | None = None
    """question, answer and correction: JSONL or Parquet"""
    out: Path
    """run folder: config.toml, metrics.jsonl and the checkpoint"""
    feedback: tuple[str, ...] = ()
    """a correction log whose judged corrections are learnt from, too; may be given more than once"""
    reviewers: tuple[str, ...] = ()
    """of the feedback, only that of this reviewer: the name of a key; may be given more than once"""
    votes: int = 1
    """of the feedback, only what so many reviewers agree on"""
    most_per_reviewer: int = 0
    """of the feedback, at most so many rows of one reviewer; 0 sets no limit"""
    base: str = "new"
    """a local directory or hub id to start from, or "new" to make a small model from nothing"""
    new: NewModel = NewModel()
    template: str = "sealed"
    """what the Aligner reads: T1 to T5, chat or sealed"""
    max_length: int = 2048
    """tokens of prompt and correction together; longer rows are dropped, counted and named"""
    held_out: int = 200
    """rows kept apart to measure copying and correcting"""
    identity: IdentityStage = IdentityStage()
    correction: CorrectionStage = CorrectionStage()
    lora: Lora = Lora()
    device: Device = "auto"
    """where to train"""
    seed: int = 42
    """seed of the order, the initial weights and the split"""
    save_every: int = 100
    """steps between two checkpoints"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the output"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectConfig:
    """aligner correct: answers in, corrections out."""

    answers: Path | None = None
    """question and answer: JSONL or Parquet; - is standard input"""
    out: Path | None = None
    """where the corrections go, in the order of the answers: JSONL or Parquet; - is standard output"""
    aligner: str = "demo"
    """a checkpoint folder or hub id, "demo" (shipped), "openai:MODEL@URL", "echo:" or "rules:FILE\""""
    question: str | None = None
    """one question, instead of a file"""
    answer: str | None = None
    """its answer"""
    batch: int = 64
    """answers decoded together"""
    device: Device = "auto"
    """where to decode"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the output"""


Mode = Literal["off", "shadow", "correct", "gate"]
Role = Literal["client", "viewer", "reviewer", "operator"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedUpstream:
    """Another upstream of the proxy."""

    name: str
    """by which requests choose it"""
    url: str
    """its base URL"""
    key_env: str = ""
    """environment variable that holds its key; without one, it gets none of ours"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedAligner:
    """Another Aligner of the proxy, in a process of its own."""

    name: str
    """by which requests choose it"""
    aligner: str
    """what --aligner takes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """aligner serve: a proxy that corrects the answers of any OpenAI-compatible model."""

    upstream: str
    """base URL of the server whose answers are corrected, such as https://api.openai.com/v1"""
    aligner: str = "demo"
    """a checkpoint folder or hub id, "demo" (shipped), "openai:MODEL@URL", "echo:" or "rules:FILE\""""
    host: str = "127.0.0.1"
    """address to listen on; beyond loopback only with keys"""
    port: int = 8080
    """port to listen on; 0 takes a free one"""
    mode: Mode = "correct"
    """off: relay; shadow: relay, and correct for the log; correct; gate: correct what the Aligner is not sure of"""
    allow: tuple[Mode, ...] = ()
    """modes that a request may ask for by the header x-aligner-mode or the field aligner"""
    gate: float | None = None
    """in mode gate: confidence from which an answer is kept as it is"""
    profile: Literal["helpful", "safety"] = "helpful"
    """when the Aligner fails: helpful sends the original, safety an error"""
    truncated: Literal["pass", "correct"] = "pass"
    """answers that the upstream cut off at its limit"""
    json: Literal["pass", "correct"] = "pass"
    """answers that must be JSON"""
    others: Literal["relay", "refuse"] = "relay"
    """the upstream's other routes, whose answers are never corrected"""
    heartbeat: float = 10.0
    """seconds without a chunk after which a comment keeps a stream alive"""
    open_after: float = 5.0
    """seconds to wait for the upstream's status before a stream is opened without it"""
    patience: float = 120.0
    """seconds to wait for the upstream's next byte"""
    seconds: float = 60.0
    """seconds that one correction may take"""
    rows: int = 16
    """answers corrected together"""
    waiting: int = 256
    """corrections that may wait"""
    largest_body: int = 10 * 2**20
    """bytes of a request whose answer is corrected, at the most"""
    keys: Path | None = None
    """file of the keys that let clients in, made by aligner grant; read again when it changes"""
    rate: float = 0.0
    """requests a minute from each client at the most; 0 is no limit"""
    at_a_time: int = 512
    """requests answered at a time; as many again wait for some seconds"""
    hosts: tuple[str, ...] = ()
    """names besides localhost by which clients without a key may call it"""
    failures: int = 5
    """failures in a row after which the upstream, or the Aligner, is left alone for a while; 0 is never"""
    rest: float = 10.0
    """seconds that it is left alone"""
    drain: int = 30
    """seconds to finish what was begun when the process is told to end"""
    upstreams: tuple[NamedUpstream, ...] = ()
    """other upstreams by name: tables [[upstreams]] of a TOML file"""
    aligners: tuple[NamedAligner, ...] = ()
    """other Aligners by name: tables [[aligners]] of a TOML file"""
    by_name: bool = False
    """let every request choose among them by the field aligner; the playground always may"""
    pages: Literal["on", "off"] = "on"
    """the playground and the other pages"""
    log: str = ""
    """where corrections are logged: a SQLite file, or a URL such as postgresql://…; none without it"""
    log_content: Literal["off", "hash", "full"] = "off"
    """what the log holds of texts: nothing, their hashes, or themselves"""
    log_days: float | None = None
    """days after which a row is deleted"""
    log_level: LogLevel = "warning"
    """from which level on lines are written to standard error: one for each request at info"""
    device: Device = "auto"
    """where to decode"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantConfig:
    """aligner grant: a new key for a client of the proxy, printed once; the file keeps its hash."""

    name: str
    """whose key it is; a line taken out of the file takes the key back"""
    role: Role = "client"
    """client: the API; viewer: also the pages and all that was logged; reviewer: also feedback; operator: all"""
    keys: Path = Path("keys.txt")
    """the file, which aligner serve reads by --keys"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertConfig:
    """aligner convert: the formats that people have in, triples out."""

    source: Path
    """the file to read: JSON, JSONL or Parquet, gzipped or not"""
    out: Path
    """where the triples go: JSONL or Parquet"""
    format: str = "triples"
    """triples, hh-rlhf, pku-saferlhf or ultrafeedback"""
    question: str = "question"
    """for triples: the field that holds the question, dots reach inside"""
    answer: str = "answer"
    """for triples: the field that holds the answer"""
    correction: str = "correction"
    """for triples: the field that holds the correction"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the output"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """aligner demo: the whole life of an Aligner in minutes, with nothing to download."""

    out: Path = Path("runs/demo")
    """run folder"""
    training: Path | None = None
    """training configuration instead of the demo's own"""
    answers: int = 200
    """held-out answers for each upstream"""
    seed: int = 0
    """seed of the world's rows"""
    shipped: bool = False
    """measure the checkpoint that ships with the package instead of training one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorConfig:
    """aligner doctor: examine any OpenAI-compatible endpoint."""

    url: str
    """base URL of the endpoint, often ending in /v1; its key is read from ALIGNER_DOCTOR_KEY or OPENAI_API_KEY"""
    model: str | None = None
    """the model to ask; the first that the endpoint lists unless given"""
    seconds: float = 60.0
    """longest wait for one answer"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """aligner export: what the proxy logged in, training data out."""

    database: str
    """the correction log: a SQLite file, or postgresql://user@host/name (the password from PGPASSWORD or ~/.pgpass)"""
    out: Path
    """where the rows go, in order of time: JSONL or Parquet; - is standard output"""
    kind: Literal["triples", "preferences", "feedback", "log"] = "triples"
    """triples, or preferences as for TRL; feedback: a row for each; log: everything, for aligner import"""
    since: str | None = None
    """only what was logged since that date, as in 2026-11-25 or 2026-11-25T08:00+01:00"""
    only_feedback: tuple[Literal["accept", "edit", "reject"], ...] = ()
    """of what has feedback, only what has this one; may be given more than once"""
    unjudged: bool = False
    """take also what nobody has judged, as if it had been accepted"""
    reviewers: tuple[str, ...] = ()
    """take only the word of this reviewer: the name of a key; may be given more than once"""
    votes: int = 1
    """take only what so many reviewers agree on"""
    most_per_reviewer: int = 0
    """take at most so many rows of one reviewer; 0 sets no limit"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """aligner import: what aligner export wrote of a log, into a log."""

    file: Path
    """rows of --kind log or --kind feedback: JSONL or Parquet; - is standard input"""
    database: str
    """the log they go to: a SQLite file, or postgresql://user@host/name; nothing comes in twice"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """aligner report: what the Aligner would have done, from what was logged in mode shadow."""

    database: str
    """the correction log: a SQLite file, or postgresql://user@host/name (the password from PGPASSWORD or ~/.pgpass)"""
    out: Path
    """where the page goes: one HTML file that needs no other"""
    since: str | None = None
    """only what was logged since that date, as in 2026-11-25 or 2026-11-25T08:00+01:00"""
    mode: Literal["shadow", "correct", "gate", "any"] = "shadow"
    """only what was logged in that mode"""


def read_config(kind: type[T], path: Path, **given: object) -> T:
    """The configuration in a TOML file, with the fields in `given` set besides.

    Raises MisuseError for a file that cannot be read, and for a key that is unknown, missing or of a wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MisuseError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from error
    return _from_table(kind, {**table, **given}, str(path))


def _from_table(kind: type[T], table: Mapping[str, object], where: str) -> T:
    known = {field.name: field for field in fields(cast("Any", kind))}
    for name in table:
        if name not in known:
            raise unknown(f"key in {where}", name, known)
    missing = [name for name, field in known.items() if field.default is MISSING and name not in table]
    if missing:
        raise MisuseError(f'{where}: no "{missing[0]}"')
    return kind(**{name: _from_value(known[name].type, value, f"{where} [{name}]") for name, value in table.items()})


def _from_value(kind: Any, value: object, where: str) -> object:
    """A value of that type: TOML has lists for tuples, texts for paths, and writes 1 also for 1.0."""
    parts = get_args(kind)
    fitting: Any = (float, int) if kind is float else kind
    if is_dataclass(kind) and isinstance(value, dict):
        return _from_table(cast("type[Any]", kind), cast("dict[str, object]", value), where)
    if get_origin(kind) is Literal:
        if value not in parts:
            raise unknown(f"value in {where}", str(value), parts)
        return value
    if get_origin(kind) is tuple:
        items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else None
        kinds = parts[:1] * len(items or ()) if parts[-1] is Ellipsis else parts
        if items is not None and len(items) == len(kinds):
            return tuple(_from_value(part, item, where) for part, item in zip(kinds, items, strict=True))
    elif Path in (kind, *parts) and isinstance(value, str):
        return Path(value)
    elif isinstance(value, fitting) and (kind is bool or not isinstance(value, bool)):
        return value
    raise MisuseError(f"{where}: {value!r} is not {kind.__name__ if isinstance(kind, type) else kind}")


def read_tables(kind: Any, tables: Sequence[object], where: str) -> object:
    """Tables that stand under one name, as a field of that type, a tuple, has them; raises MisuseError."""
    return _from_value(kind, tables, where)


def packaged_config(name: str) -> Path:
    """The TOML file of that name that comes with the package."""
    beside = Path(__file__).parent / "configs"
    folder = beside if beside.is_dir() else Path(__file__).parents[2] / "configs"
    return folder / f"{name}.toml"
