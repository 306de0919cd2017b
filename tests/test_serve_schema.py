"""Laws of the proxy's own routes, from a description of them in OpenAPI, by schemathesis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from fuzzing import Fuzzed, fuzzed
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

DESCRIBED = schemathesis.openapi.from_dict(
    yaml.safe_load((Path(__file__).parent / "openapi.yaml").read_text(encoding="utf-8"))
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SHORT = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
LONG = settings(SHORT, max_examples=1000)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """A proxy before the scripted upstream that answers well, with a log."""
    log = tmp_path_factory.mktemp("schema") / "log.db"
    with fuzzed(log=str(log), allow=("off", "shadow", "correct"), patience=5.0) as found:
        found.by_model()
        yield found


@DESCRIBED.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator]
@SHORT
def test_every_route_keeps_to_its_description(case: schemathesis.Case[Any], proxy: Fuzzed) -> None:
    """Statuses, content types, headers and bodies are those described, errors in OpenAI's shape, and none is a 5xx."""
    case.call_and_validate(base_url=proxy.proxy.url, checks=CHECKS, timeout=20)
    assert proxy.unforeseen() == []


@pytest.mark.slow
@DESCRIBED.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator]
@LONG
def test_every_route_keeps_to_its_description_for_long(case: schemathesis.Case[Any], proxy: Fuzzed) -> None:
    """The same, with very many requests."""
    case.call_and_validate(base_url=proxy.proxy.url, checks=CHECKS, timeout=20)
    assert proxy.unforeseen() == []
