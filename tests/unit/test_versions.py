"""Each action of `tools.versions` offers the options that it obeys, and no others."""

import socket
import time
from typing import Any

import numpy as np
import pytest

from clients.connection import PROTOCOLS
from clients.router.trial import Terms
from tests.conftest import Command
from tests.e2e.peers import nobody
from tools.versions import comparison
from tools.versions.__main__ import _parser
from tools.versions.replicas import Replica, replicas_at
from tools.versions.waves import grouped


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("list", ["--keep", "3"]),
        ("list", ["--public-key", "public.pem"]),
        ("list", ["3"]),
        ("promote", ["--mode=shadow"]),
        ("promote", ["--url", "127.0.0.1:8000", "--hardware", "cpu"]),
        ("rollback", ["--allow-worse"]),
        ("rollback", ["--limit", "100"]),
        ("prune", ["--url", "127.0.0.1:8000"]),
        ("rollout", ["--keep", "3"]),
        ("rollout", ["--timeout", "0"]),
        ("promote", ["--bake", "0"]),
    ],
)
def test_an_option_of_another_action_is_refused(
    action: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _parser().parse_args(["mnist_mlp", action])
    with pytest.raises(SystemExit, match="2"):
        _parser().parse_args(["mnist_mlp", action, *options])
    assert options[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollout", "--router", "127.0.0.1:8081", "--callers", "4"], "--callers and --listen are of its own router"),
        (["promote", "--grpc-url", "127.0.0.1:8001"], "give its --url too"),
        (["promote", "--url", "a:1", "b:1", "--waves", "0"], "--waves: expected a number of replicas or a share"),
        (["promote", "--url", "a:1", "b:1", "--grpc-url", "a:2"], "--url names 2 servers, --grpc-url 1"),
        (["list", "--url", "127.0.0.1"], "expected an address HOST:PORT"),
        (["list", "--repository", "tests"], "tests/mnist_mlp/config.pbtxt does not exist; models in "),
        (["rollout", "--share", "2"], "expected a share of more than 0 and at most 1, got 2"),
    ],
)
def test_what_cannot_be_run_is_exit_code_2(arguments: list[str], message: str, command: Command) -> None:
    done = command("tools.versions", "mnist_mlp", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and "Traceback" not in done.stderr


REPLICAS = [Replica(f"10.0.0.{number}:8000", f"10.0.0.{number}:8001") for number in range(10)]


@pytest.mark.parametrize(
    ("count", "ends", "sizes"),
    [
        (3, ("1", "50%", "100%"), [1, 1, 1]),
        (10, ("1", "50%", "100%"), [1, 4, 5]),
        (10, ("30%",), [3, 7]),
        (2, ("1", "50%", "100%"), [1, 1]),
        (1, ("1", "50%", "100%"), [1]),
        (3, ("7",), [3]),
    ],
)
def test_waves_grow_and_the_last_one_has_all(count: int, ends: tuple[str, ...], sizes: list[int]) -> None:
    groups = grouped(REPLICAS[:count], ends)
    assert [len(group) for group in groups] == sizes
    assert [replica for group in groups for replica in group] == REPLICAS[:count]


def test_a_comparison_with_replicas_that_do_not_answer_ends_before_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_SILENCE_S", 0.2)
    inputs = {"X": np.ones((3, 2), np.float32)}
    silent, began = Replica(nobody(), nobody()), time.monotonic()
    (trial,) = comparison.Comparison(Terms("m", "m"), inputs, PROTOCOLS, timeout_s=60).of([silent], [silent])
    assert trial.decision is None and trial.pairs == 0 and time.monotonic() - began < 30


def test_a_name_with_several_addresses_is_as_many_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"pods": ["10.0.0.0", "10.0.0.1", "::7"], "localhost": ["127.0.0.1", "::1"], "six": ["::2", "::1"]}

    def resolve(host: str, port: int, **kind: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror
        kinds = [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in known[host]]
        return [(family, None, None, "", (each, port)) for family, each in kinds]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert replicas_at(["pods:8000"]) == REPLICAS[:2]
    assert replicas_at(["pods:8000", "nobody:8000"], ["pods:9", "nobody:9"])[2] == Replica("nobody:8000", "nobody:9")
    assert replicas_at(["localhost:8000"], ["localhost:8001"]) == [Replica("localhost:8000", "localhost:8001")]
    assert [replica.grpc for replica in replicas_at(["six:8000"])] == ["[::1]:8001", "[::2]:8001"]
