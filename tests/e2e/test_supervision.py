"""A supervised service: whatever ends or silences a replica is noticed, and mended, while others are served.

`python -m tests.faults` shows how long it takes under load, at the default interval.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.e2e.serving import FREE_PORTS, add_sleeper, serving
from tests.faults.load import constant_load
from tests.faults.models import push_corrupt_version
from tests.faults.service import FAULTS, Service, agent_says, door_flags, service, suffer
from tests.haproxy import NEEDS_HAPROXY
from tests.waiting import soon
from tools.repository import ROOT


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas; in the end their supervisor is killed, and nothing may be left of them."""
    # After a model's process was killed, Triton 2.51 would spend its whole exit timeout.
    with service(tmp_path_factory.mktemp("service"), "--exit-timeout-secs=1") as started:
        yield started
        assert len(started.tritons()) == 2
        assert started.serving.end(signal.SIGKILL) == -signal.SIGKILL


def test_replicas_restart_in_turn_and_no_request_fails(running: Service) -> None:
    before, began = running.tritons(), time.time()
    with constant_load(running.chooser()) as tally:
        running.serving.process.send_signal(signal.SIGHUP)
        running.wait("rolled", began)
    assert not tally.failed and tally.right > 100
    assert not set(running.tritons()) & set(before) and len(running.tritons()) == 2


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed_and_mended(name: str, running: Service) -> None:
    ports = [{key: each[key] for key in ("name", "http", "agent")} for each in running.status()["replicas"]]
    suffer(running, FAULTS[name])
    # On a busy host a look that comes late may take one of them out for a moment.
    assert soon(lambda: are_well(running))
    assert [{key: each[key] for key in ("name", "http", "agent")} for each in running.status()["replicas"]] == ports


def are_well(running: Service) -> bool:
    """Whether all replicas are, by the supervisor's account and their agents'."""
    replicas = running.status()["replicas"]
    is_up = all((each["state"], each["sick"]) == ("up", {}) for each in replicas)
    return is_up and all(agent_says(each["agent"]) == "up ready" for each in replicas)


def test_what_was_done_is_counted_and_shown(running: Service, command: Command) -> None:
    address, counters = running.status_url.removeprefix("http://").removesuffix("/status"), running.counters()
    assert 'triton_supervisor_replica_up{replica="replica1"} 1.0' in counters
    assert 'triton_supervisor_events_total{event="unhealed",model="",replica="replica0"} 0.0' in counters
    assert 'triton_supervisor_probes_total{model="doubles",outcome="right",replica="replica0"}' in counters
    shown = command("clients.status", "--url", running.status()["replicas"][0]["http"], "--supervisor", address)
    assert shown.returncode == 0 and "replica1 up 127.0.0.1:" in shown.stdout, shown.stderr


@NEEDS_HAPROXY
def test_behind_the_door_nobody_s_request_fails_when_a_replica_or_a_model_falls_silent(tmp_path: Path) -> None:
    with service(tmp_path, *door_flags(tmp_path)) as running, constant_load(running.door_chooser(), 2) as tally:
        for name in ("a model hangs for ever", "SIGSTOP of a replica"):
            suffer(running, FAULTS[name])
    assert tally.failures == {} and tally.right > 100


def test_a_replica_that_dies_again_and_again_ends_the_service_with_its_log(tmp_path: Path) -> None:
    with service(tmp_path, "--max-deaths=3", replicas=1) as started:
        for died in range(3):
            began = time.time()
            os.kill(started.tritons()[0], signal.SIGKILL)
            if died < 2:
                started.wait("up", began)
        assert started.serving.process.wait(60) == 2
        assert "error: replica0 died 3 times, never after 60 s: tritonserver was killed" in started.serving.stderr


def test_what_nothing_heals_is_reported_and_the_others_are_served(tmp_path: Path) -> None:
    with service(tmp_path, replicas=1) as started:
        add_sleeper(started.repository)
        (started.repository / "sleeper" / "1" / "model.py").write_text("import no_such_module")
        push_corrupt_version(add_sleeper(started.repository, "pushed"), "pushed")
        began = time.time()
        os.kill(started.tritons()[0], signal.SIGKILL)
        assert "sleeper version 1 does not load" in started.wait("lenient", began)["text"]
        assert started.wait("loaded", began, "pushed")["text"].startswith("serves version 1")
        model, began = started.repository / "doubles" / "1" / "model.py", time.time()
        model.write_text(model.read_text().replace("2 * x", "3 * x"))
        started.serving.process.send_signal(signal.SIGHUP)
        started.wait("unhealed", began)

        def is_sick() -> bool:
            (replica,) = started.status()["replicas"]
            return replica["state"] == "up" and "Y differs by 3" in replica["sick"].get("doubles", "")

        assert soon(is_sick)


def test_a_service_manager_is_told_and_reassured(tmp_path: Path) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place))
        manager.settimeout(60)
        repository = add_sleeper(tmp_path / "models")
        variables = {"NOTIFY_SOCKET": str(place), "WATCHDOG_USEC": "1000000"}
        with serving(tmp_path / "run", "--repository", repository, *FREE_PORTS, **variables) as started:
            heard = [manager.recv(100) for _ in range(2)]
            while b"READY=1" not in heard:
                heard.append(manager.recv(100))
            assert heard[0] == b"WATCHDOG=1" and heard[-1] == b"READY=1"
            assert started.end(signal.SIGTERM) == 0
            while b"STOPPING=1" not in heard:
                heard.append(manager.recv(100))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "systemd" / "triton.service").read_text()
    place = tmp_path / "triton.service"
    # Only a program that exists passes.
    place.write_text(unit.replace("/opt/triton/.venv/bin/python", sys.executable))
    judged = subprocess.run(["systemd-analyze", "verify", place], capture_output=True, text=True)
    assert (judged.returncode, judged.stderr) == (0, "")
