"""What all tests share: no network, one thread for each worker, and the folder of real files."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Read when torch and huggingface_hub are imported, so set before any test; programs that tests start inherit them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What passes cost is kept in the user's cache; tests have one of their own.
_CACHE = tempfile.TemporaryDirectory(prefix="aligner-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

# A shell starts background jobs deaf to Ctrl-C, and the programs that they start would be deaf, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason for a law to fail.
settings.register_profile("aligner", deadline=None)
settings.load_profile("aligner")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that asks for the real files."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.realdata)


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> object:
    """Each kind of the official client of OpenAI, which takes seconds to import."""
    from openai_callers import CALLERS

    return CALLERS[request.param]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that ALIGNER_REAL_DATA names; the test is skipped where the variable is not set."""
    folder = os.environ.get("ALIGNER_REAL_DATA")
    if not folder:
        pytest.skip("ALIGNER_REAL_DATA names no folder")
    if not Path(folder).is_dir():
        pytest.fail(f"ALIGNER_REAL_DATA={folder} is not a folder")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def ruling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from openai_served import served

    with served(tmp_path_factory.mktemp("rules"), allow=("off", "shadow", "correct")) as running:
        yield running


@pytest.fixture
def ruled(ruling: Any) -> Iterator[Any]:
    """A proxy that corrects by rules, before an upstream that answers by the name of the model."""
    from openai_served import ANSWERING

    ruling.box[0] = ANSWERING
    yield ruling.proxy
    assert not ruling.unforeseen()
