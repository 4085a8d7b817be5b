"""tools.doctor on real servers: a healthy one, and one whose models are each ill in another way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command, served
from tests.doctor.ill import FAULTS, observed, ward
from tools.doctor.diagnose import diagnose
from tools.doctor.observation import Seen
from tools.doctor.proof import Effort, prove
from tools.repository import config_path, model_names
from tools.serve.tritonserver import Options, Server

# Those that leave the cores to the others.
ILL = ("queue delay", "preferred sizes", "step without batches", "instances", "response cache", "unready")
WATCHED_S = 2.0


@pytest.fixture(scope="module")
def repository_of_the_ill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ill")


@pytest.fixture(scope="module")
def seen(repository_of_the_ill: Path) -> Iterator[Seen]:
    """What was seen of the ill models; their server has ended."""
    with ward(repository_of_the_ill, {name: FAULTS[name] for name in ILL}) as server:
        found = observed(server, WATCHED_S)
    yield found


@pytest.mark.parametrize("fault", ILL)
def test_the_planted_fault_of_a_model_is_named_first(seen: Seen, fault: str) -> None:
    name = fault.replace(" ", "_")
    found = [one for one in diagnose([seen]) if one.model == name and one.is_serious]
    assert found[0].finding.bound == fault, found


def test_a_change_is_measured_beside_its_prediction(seen: Seen, repository_of_the_ill: Path) -> None:
    (change,) = (one for one in diagnose([seen]) if (one.model, one.finding.bound) == ("queue_delay", "queue delay"))
    before = config_path("queue_delay", repository=repository_of_the_ill).read_text()
    (proof,) = prove([change], [seen], Effort(repository_of_the_ill, "cpu", rounds=1, seconds=0.4))
    assert proof.predicted and proof.measured and not proof.problem
    # How well they agree is `python -m tests.doctor`'s to show: on a busy host, times vary by more than any bound.
    assert min(proof.predicted.factor, proof.measured.factor) > 1, proof
    assert config_path("queue_delay", repository=repository_of_the_ill).read_text() == before


@pytest.fixture(scope="module")
def untouched(repository: Path) -> Iterator[Server]:
    """A server that nobody else asks: the session's one remembers what other tests made fail."""
    with served(Options(repository)) as running:
        yield running


def test_a_healthy_server_is_told_so_with_a_page_and_a_document(
    command: Command, untouched: Server, tmp_path: Path
) -> None:
    answer = command(
        "tools.doctor", untouched.http, "--metrics-url", untouched.metrics, "--seconds", "0.5", "--report", tmp_path
    )
    document = json.loads(answer.stdout.splitlines()[-1])
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert document["healthy"] and document["changes"] == [] and "Nothing found: healthy" in answer.stdout
    assert {model["name"] for model in document["servers"][0]["models"]} <= set(model_names())
    assert {finding["severity"] for finding in document["findings"]} <= {"info"}
    assert any(difference["kind"] == "different" for difference in document["upgrade"])
    assert "healthy" in next(tmp_path.glob("doctor-*.html")).read_text()


def test_a_server_that_cannot_be_asked_is_exit_code_two(command: Command, server: Server, tmp_path: Path) -> None:
    answer = command("tools.doctor", server.metrics, "--seconds", "0.1", "--report", tmp_path)
    assert answer.returncode == 2 and answer.stderr.startswith("error: ") and "not Triton's" in answer.stderr
