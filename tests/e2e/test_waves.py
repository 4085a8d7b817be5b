"""A version brought to three replicas under constant load: two of one service, one with a folder of its own."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from clients.client import Client
from clients.connection import PROTOCOLS, Connection
from clients.router.trial import Terms
from tests.e2e.second_versions import (
    MODEL,
    Change,
    Seen,
    add_version,
    alone,
    as_good,
    constant_load,
    explicit,
    first_logit,
    turned,
)
from tests.e2e.serving import FREE_PORTS, Serving, name_of, serving
from tests.waiting import soon
from tools.ports import choose_ports, listens
from tools.repository import held_versions, version_path, versions
from tools.serve.tritonserver import Server
from tools.verify.references import held_out
from tools.versions import waves
from tools.versions.__main__ import main
from tools.versions.replicas import Replica, look, put
from tools.versions.waves import Fleet, WaveFailedError, Waves, roll

Run = Callable[..., tuple[int, str, dict[str, Any]]]
TERMS = Terms(MODEL, MODEL, max_errors=0.05, slower=5)
ACCEPTED = ("--max-errors", "0.05", "--slower", "5")


@dataclass(frozen=True)
class House:
    """Three replicas, of which the last has a folder and a life of its own."""

    models: Path
    fleet: Fleet
    running: Serving
    own: Server

    @property
    def replicas(self) -> Sequence[Replica]:
        return self.fleet.replicas

    @property
    def urls(self) -> list[str]:
        """The option that names them."""
        return ["--url", *(each.http for each in self.replicas)]

    def connections(self, replicas: Sequence[Replica]) -> list[Connection]:
        return [each.connection(protocol, 30.0) for each in replicas for protocol in PROTOCOLS]

    def serve(self) -> list[int | None]:
        """The version that each replica serves."""
        return [each.version for each in look(self.replicas, MODEL)]

    def roll(self, version: int, *ends: str) -> Waves:
        fleet = replace(self.fleet, ends=ends)
        return roll(fleet, held_out(MODEL, version, self.models)[0].inputs, version, self.models)


@pytest.fixture(scope="module")
def house(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("waves")
    models, own = alone(built, folder / "models"), alone(built, folder / "own")
    http, grpc, metrics = choose_ports("127.0.0.1", [0, 0, 0])
    options = replace(explicit(own), http_port=http, grpc_port=grpc, metrics_port=metrics)
    with (
        serving(folder / "run", "--repository", models, *FREE_PORTS, "--replicas", "2") as running,
        Server(options) as alone_server,
    ):
        places = [running.line().split("http://")[1].split(" (gRPC)")[0].split(" (HTTP), ") for _ in range(2)]
        replicas = [Replica(*place) for place in [*places, (alone_server.http, alone_server.grpc)]]
        yield House(models, Fleet(replicas, TERMS, bake_s=0.1, timeout_s=60), running, alone_server)
        running.end(signal.SIGTERM, signal.SIGTERM)  # The second one waits for nothing.


def answers(seen: Seen) -> set[float]:
    """Different answers that callers got."""
    return {round(answer, 2) for answer in seen.answers}


@pytest.fixture
def run(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `tools.versions` in this process, which has torch already: exit code, what it printed, and its JSON."""

    def run(action: str, *options: str) -> tuple[int, str, dict[str, Any]]:
        words = ["tools.versions", MODEL, action, "--repository", str(house.models), *house.urls, *options]
        monkeypatch.setattr(sys, "argv", words)
        code = main()
        printed = capsys.readouterr().out
        return code, printed, json.loads(printed.splitlines()[-1])

    return run


def test_a_good_version_takes_over_wave_by_wave_and_no_request_fails(house: House, run: Run) -> None:
    (one,) = versions(MODEL, house.models)
    before, two = first_logit(house.replicas[0].connection("grpc")), add_version(house.models, as_good)
    grpc = ("--grpc-url", *(each.grpc for each in house.replicas))
    effort = ("--batch-sizes", "16", "--concurrency", "8", "--bake", "0.1")
    with constant_load(house.connections(house.replicas)) as seen:
        code, _, document = run("promote", *grpc, *effort, *ACCEPTED)
    assert code == 0
    print(f"callers: {len(seen.answers):,} requests answered, {len(seen.failures)} failed")
    assert [wave["replicas"] for wave in document["waves"]] == [[each.http] for each in house.replicas]
    assert all(wave["pairs"] > 100 and wave["problem"] == "" for wave in document["waves"])
    assert [each["serves"] for each in document["replicas"]] == [two] * 3 == house.serve()
    assert (document["before"], versions(MODEL, house.models)) == (one, [one, two])
    after = [first_logit(connection) for connection in house.connections(house.replicas)]
    assert after == pytest.approx([1.5 * before] * 6, rel=1e-3)
    assert not seen.failures and answers(seen) == {round(before, 2), round(after[0], 2)}


def test_a_worse_version_is_taken_back_from_all_replicas_and_no_request_fails(house: House) -> None:
    served, worse = house.serve(), add_version(house.models, turned)
    with (
        constant_load(house.connections(house.replicas)) as seen,
        pytest.raises(WaveFailedError, match="was rolled back everywhere: .*: disagreement in ") as raised,
    ):
        house.roll(worse, "2")
    (wave,) = raised.value.waves.waves
    print(wave, f"callers: {len(seen.answers):,} requests answered, {len(seen.failures)} failed")
    assert len(wave.replicas) == 2 and [each.version for each in raised.value.waves.replicas] == served == house.serve()
    assert worse in held_versions(MODEL, house.models) and worse not in versions(MODEL, house.models)
    assert not seen.failures and seen.answers


def test_what_a_replica_cannot_load_leaves_no_mark(house: House) -> None:
    served, broken = house.serve(), add_version(house.models, as_good)
    (version_path(MODEL, broken, house.models) / "model.pt").write_bytes(b"nothing")
    with constant_load(house.connections(house.replicas[1:])) as seen:
        standings = put(house.replicas[1:], MODEL, broken, house.models)
    assert all("model.pt" in each.problem for each in standings)
    assert [each.version for each in standings] == served[1:] and house.serve() == served and not seen.failures
    for replica in house.replicas:
        with Client(replica.connection("http")) as client:
            assert client.is_ready()


@pytest.mark.parametrize("change", [as_good, turned], ids=["between two waves", "while it is taken back"])
def test_ctrl_c_takes_the_version_back(
    change: Change, house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(text: str) -> None:
        monkeypatch.undo()
        assert house.serve()[0] == good
        monkeypatch.setattr(waves, "put", interrupt)  # The next wave, or what follows one that failed.

    def interrupt(*_: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    served, good = house.serve(), add_version(house.models, change)
    monkeypatch.setattr(waves, "say", said)
    with pytest.raises(KeyboardInterrupt):
        house.roll(good, "1")
    assert house.serve() == served and good in held_versions(MODEL, house.models)
    assert f"{MODEL} version {good} was rolled back everywhere" in capsys.readouterr().err


def test_a_replica_that_dies_with_the_version_fails_its_wave_and_starts_on_what_was_served(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = {int(house.replicas[0].http.rpartition(":")[2])}
    (first,) = (pid for pid in house.running.started() if name_of(pid) == "tritonserver" and listens(pid, port))

    def kill(text: str) -> None:
        monkeypatch.undo()
        os.kill(first, signal.SIGKILL)

    served, good = house.serve(), add_version(house.models, as_good)
    monkeypatch.setattr(waves, "say", kill)
    with (
        constant_load(house.connections(house.replicas[1:])) as seen,
        pytest.raises(WaveFailedError, match=f"{house.replicas[0]} (went away|serves version {served[0]} again)"),
    ):
        house.roll(good, "1")
    assert soon(lambda: house.serve() == served) and not seen.failures


def test_a_replica_from_which_the_version_cannot_be_taken_back_is_named(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(text: str) -> None:
        monkeypatch.undo()
        house.own.kill()

    monkeypatch.setattr(waves, "say", kill)
    served, good, (*others, own) = house.serve(), add_version(house.models, as_good), house.replicas
    fleet = replace(house, fleet=replace(house.fleet, replicas=[own, *others]))
    left = rf"version {good} was rolled back, but {own} does not answer \(`sync` brings that up\): {own} went away: "
    with pytest.raises(WaveFailedError, match=left):
        fleet.roll(good, "1")
    assert house.serve() == [*served[:2], None]


def test_a_replica_that_is_away_is_reported_and_caught_up(house: House, run: Run) -> None:
    served, good = house.serve()[0], add_version(house.models, as_good)
    house.own.__exit__(None, None, None)
    with constant_load(house.connections(house.replicas[:2])) as seen:
        rolled = house.roll(good, "1")
    assert not seen.failures and [each.version for each in rolled.replicas] == [good, good, None]
    assert rolled.replicas[2].problem and len(rolled.waves) == 2
    # It starts on a folder that still has the first version alone.
    with Server(house.own.options) as own:
        _, printed, document = run("list")
        assert "differs from" in printed and "2 of 3" in printed
        assert [each["differs"] for each in document["replicas"]] == [False, False, True]
        assert run("sync")[0] == 0 and house.serve() == [good] * 3
        code, _, document = run("rollback")
        assert (code, document["version"]) == (0, served) and house.serve() == [served] * 3
        own.kill()
