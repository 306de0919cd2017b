"""Laws of models reached by name."""

import subprocess
import sys

import pytest

from aligner.errors import MisuseError
from aligner.models import BACK_ENDS, load_model


@pytest.mark.parametrize("name", ["", "gpt-4", "replay", "no:thing", ":x", "Echo:"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    """A name without a known back end is misuse, and the error says what could stand there."""
    with pytest.raises(MisuseError) as caught:
        load_model(name)
    assert all(f"{known}:" in str(caught.value) for known in BACK_ENDS)


def test_a_misspelt_back_end_gets_a_hint() -> None:
    """The nearest known one is named."""
    with pytest.raises(MisuseError, match='did you mean "replay:"'):
        load_model("reply:")


def test_a_light_model_loads_no_heavy_package() -> None:
    """Only the back end that is asked for is imported."""
    code = "import sys; from aligner.models import load_model; load_model('echo:'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "aiohttp", "pyarrow"} & set(loaded)
