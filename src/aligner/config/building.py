"""How triples are built: sources, upstreams, annotators, filters, prices and limits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligner.config.kinds import Device, OnBadRow

ExportFormat = Literal["trl", "trl-preference", "kto", "axolotl", "llama-factory"]
Calling = Literal["live", "batch", "files"]
Language = Literal["off", "same"]
Quality = Literal["helpful", "harmless", "honest", "empathetic", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSource:
    """Where questions come from, and perhaps recorded answers and corrections."""

    path: str
    """a file or folder, "hub:ORG/NAME/FILE", or "world:COUNT" for questions of the closed world"""
    name: str = ""
    """what it is called in the manifest; the file's name unless given"""
    format: str = "triples"
    """triples (any file by its fields), hh-rlhf, pku-saferlhf, ultrafeedback, truthfulqa, sharegpt, log"""
    takes: Literal["questions", "answers", "triples"] = "questions"
    """questions alone; also the answer of each row, as of an upstream of this name; or its correction, too"""
    question: str = "question"
    """the field that holds the question, dots reach inside"""
    answer: str = "answer"
    """the field that holds the answer"""
    correction: str = "correction"
    """the field that holds the correction"""
    licence: str = "unknown"
    """goes into the manifest, and with every row"""
    sample: int = 0
    """so many of its rows, drawn by the seed; 0 takes all"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildUpstream:
    """A model that answers; how it is sampled is what was published, unless told otherwise."""

    name: str
    """what it is called in the manifest"""
    model: str
    """openai:MODEL[@BASE_URL], hf:PATH, replay:FILE, world:PROFILE, ..."""
    share: float = 1.0
    """of the questions that it may answer, drawn by the seed"""
    samples: int = 1
    """answers to each question"""
    temperature: float = 0.5
    top_p: float = 0.95
    top_k: int = 10
    max_tokens: int = 1024
    calling: Calling = "live"
    """live; batch: by the server's Batch API; files: batch files for an offline engine, and theirs are collected"""
    price_in: float = 0.0
    """for a million tokens read"""
    price_out: float = 0.0
    """for a million tokens written"""
    batch_price: float = 0.5
    """what a batch costs of that"""
    requests_per_minute: float = 0.0
    """0 sets no limit; shared by all workers of one store"""
    tokens_per_minute: float = 0.0
    """read and written; 0 sets no limit"""
    at_a_time: int = 8
    """calls at a time, of one worker"""
    attempts: int = 6
    """of one call in one run, where what went wrong may pass"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAnnotator:
    """Who corrects: any model, people, or a first Aligner."""

    name: str
    """what it is called in the manifest"""
    model: str
    """openai:MODEL[@BASE_URL] or any other model; "human:" for people; "aligner:FOLDER" for a first Aligner"""
    prompt: str = "ours"
    """ours (keep or edit, reasons, correction, as JSON), published-gpt4 or published-llama (the paper's editors)"""
    share: float = 1.0
    """of the answers that are left to this annotator and those behind it"""
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 2048
    calling: Calling = "live"
    """live; batch: by the server's Batch API; files: batch files for an offline engine, and theirs are collected"""
    price_in: float = 0.0
    """for a million tokens read"""
    price_out: float = 0.0
    """for a million tokens written"""
    batch_price: float = 0.5
    """what a batch costs of that"""
    requests_per_minute: float = 0.0
    """0 sets no limit; shared by all workers of one store"""
    tokens_per_minute: float = 0.0
    """read and written; 0 sets no limit"""
    at_a_time: int = 8
    """calls at a time, of one worker"""
    attempts: int = 6
    """of one call in one run, where what went wrong may pass"""
    asks: int = 3
    """how often it is asked for one correction, where its reply cannot be read"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAgainst:
    """An evaluation set that nothing of the build may overlap with."""

    path: str
    """a local file or folder"""
    task: str = ""
    """the benchmark whose items these are: see aligner evaluate --list; without it the fields below are read"""
    name: str = ""
    """what it is called in the manifest; the task's or the file's name unless given"""
    fields: tuple[str, ...] = ("question",)
    """the fields whose texts are looked for, dots reach inside"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFilters:
    """What is dropped, always with id and reason."""

    shortest_question: int = 3
    """letters and digits"""
    longest_question: int = 8000
    """characters"""
    near_duplicate: float = 0.7
    """similarity of word 3-grams from which on questions share a cluster and, of 40 words or more, are one; 0: never"""
    min_ratio: float = 0.3
    """least length of a correction by its answer, where one of the two has 1,000 characters or more"""
    max_ratio: float = 3.0
    """greatest length of a correction by its answer, where one of the two has 1,000 characters or more; 0 sets none"""
    ratio_of_given: bool = False
    """also look at the lengths of corrections that came with their source"""
    tokenizer: str = ""
    """a checkpoint folder or hub id whose tokens are counted; four characters a token without it"""
    template: str = "sealed"
    """what the Aligner reads, for that count"""
    max_length: int = 2048
    """tokens of prompt and correction together"""
    language: Language = "same"
    """same: question and correction are in one language, as far as script and common words tell"""
    pii: Literal["replace", "keep"] = "replace"
    """replace personal data by the same stand-ins in question, answer and correction"""
    overlap_words: int = 12
    """words in a row that a text shares with an evaluation set"""
    max_overlap: float = 0.0
    """share of the rows, or of the corrections, above which the build fails; what overlaps is dropped in any case"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSplits:
    """Shares kept apart, by cluster of questions."""

    validation: float = 0.05
    """share of the questions that are kept to measure on while training"""
    test: float = 0.0
    """share of the questions that are kept to measure on in the end"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReview:
    """The page on which people correct: aligner build review."""

    host: str = "127.0.0.1"
    """address to listen on"""
    port: int = 8090
    """port to listen on"""
    keys: Path | None = None
    """who may correct: a file made by aligner grant; needed beyond loopback"""
    twice: float = 0.1
    """share of the answers that two people correct, to see how far they agree"""
    inspected: float = 0.05
    """share of the corrections that a reviewer with the role reviewer or more looks at again"""
    lease_minutes: float = 30.0
    """after which an answer that was given out and not sent back goes to somebody else"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """aligner build: questions, answers of many upstreams, corrections, filters, and triples with a manifest."""

    stage: Literal["all", "questions", "answers", "corrections", "verdicts", "export", "review", "status"] = "all"
    """one stage, or all at once; review serves the page on which people correct; status says how far it is"""
    out: Path = Path("runs/build")
    """folder of the store, of batch files and of the data set; the same command goes on where it was interrupted"""
    sources: tuple[BuildSource, ...] = ()
    """where questions come from: tables [[sources]] of a TOML file"""
    upstreams: tuple[BuildUpstream, ...] = ()
    """who answers: tables [[upstreams]]"""
    annotators: tuple[BuildAnnotator, ...] = ()
    """who corrects: tables [[annotators]]"""
    against: tuple[BuildAgainst, ...] = ()
    """evaluation sets that nothing may overlap with: tables [[against]]"""
    answers_per_question: int = 0
    """so many of the upstreams answer a question, drawn by the seed; 0 asks all"""
    principles: tuple[str, ...] = ("helpful", "harmless", "honest")
    """what annotators go by: names of those that ship, or TOML files"""
    twice: float = 0.05
    """share of the answers that a second annotator corrects too, to see how far they agree"""
    judge: str = ""
    """any judge of aligner evaluate: drops corrections that are worse; its calls are not priced, and have no limit"""
    judged: float = 1.0
    """share of the corrections that the judge sees"""
    quality: Quality = "helpful"
    """what the judge looks at"""
    filters: BuildFilters = BuildFilters()
    splits: BuildSplits = BuildSplits()
    review: BuildReview = BuildReview()
    currency: str = "USD"
    """of all prices"""
    pilot: int = 200
    """answers that are made and corrected before the whole is estimated"""
    max_cost: float | None = None
    """nothing more is asked once this is spent"""
    yes: bool = False
    """go on behind the pilot; with --max-cost, or where nothing has a price, that needs no saying"""
    failed: Literal["keep", "retry"] = "keep"
    """what becomes of calls that failed for good"""
    formats: tuple[ExportFormat, ...] = ("trl",)
    """exports besides JSONL and Parquet; may be given more than once"""
    rows_per_shard: int = 100_000
    """of the files that come out"""
    shard: str = ""
    """i/N, from 0: only the questions of that part"""
    engine: Literal["local", "ray"] = "local"
    """where the shards run"""
    ray_address: str = ""
    """of a cluster; a local one is started without it"""
    shards: int = 0
    """with --engine ray: parts that are built apart; 0 is as many as there are workers"""
    workers: int = 0
    """with --engine ray: parts at a time; 0 is as many as there are CPUs"""
    device: Device = "auto"
    """where models in this process run"""
    seed: int = 0
    """of samples, orders and splits"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row of a source that cannot be used, or skip it: it is then among the dropped rows, with its place"""
