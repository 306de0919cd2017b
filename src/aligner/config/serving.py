"""The proxy, its keys, and its log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligner.config.kinds import Device, LogLevel, Mode, Role, Telling


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
    instruction: str = ""
    """what it is told"""
    objective: str = ""
    """the same by name"""


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
    instruction: str = ""
    """what the Aligner is told, as in "make it more empathetic\""""
    objective: str = ""
    """the same by name: helpful, harmless, honest, empathetic, concise, code, maths or summary"""
    allow_instructions: Telling = "no"
    """what a request may tell it by the field aligner: objectives by their names, or any words"""
    gate: float | None = None
    """in mode gate: probability that no change is needed, from which an answer is kept; else the Aligner's own"""
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
    told: bool = False
    """take also what the Aligner wrote when it was told something, which the rows do not say"""


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
