"""New versions under load: good ones take over, bad ones do not, and no caller's request fails for any of them."""

import hashlib
import json
import queue
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc

from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.errors import ModelNotFound, ServerUnavailable
from clients.router.trial import Mode, Terms
from tests.conftest import Command, connection_to, served
from tests.e2e.second_versions import (
    DIGIT,
    MODEL,
    Broken,
    Change,
    Seen,
    add_version,
    alone,
    as_good,
    both,
    constant_load,
    explicit,
    first_logit,
    turned,
    worse,
)
from tests.waiting import soon
from tools.repository import MANIFEST_FILE, held_versions, version_path, versions
from tools.serve.router_process import RouterError
from tools.serve.tritonserver import Server
from tools.verify.passes import Effort
from tools.verify.verifier import Verifier, connections
from tools.versions import candidates
from tools.versions.candidates import RefusedError, candidate_name
from tools.versions.promotion import promote, rollback
from tools.versions.rollout import Plan, Rollout, roll_out
from tools.versions.router_control import Router, started_router


@pytest.fixture(scope="module")
def models(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the digit classifier alone, to which tests add versions."""
    return alone(built, tmp_path_factory.mktemp("rollout") / "models")


@pytest.fixture(scope="module")
def running(models: Path) -> Iterator[Server]:
    """A server that takes load requests."""
    with served(explicit(models)) as server:
        yield server


@pytest.fixture(scope="module")
def router(running: Server) -> Iterator[Router]:
    """A router in front of it."""
    with started_router(running.http, running.grpc) as started:
        yield started


def verifier(server: Server, repository: Path) -> Verifier:
    """A verifier that sends little."""
    effort = Effort(sizes=(16,), concurrencies=(8,))
    return Verifier(connections(server.http, server.grpc), "remote", repository, effort)


def spoil(folder: Path) -> None:
    """Replace a version's file by one that is no model, as if it had been published so."""
    (folder / "model.pt").write_bytes(b"nothing")
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["file"]["sha256"] = hashlib.sha256(b"nothing").hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def rolled_out(change: Change, mode: Mode, running: Server, router: Router, models: Path) -> tuple[Rollout, Seen]:
    """Roll a version out under constant load through the router; what came of it, and what callers saw."""
    version = add_version(models, change)
    terms = Terms(MODEL, candidate_name(MODEL, version), mode, 0.5, 0.9, 0.05, slower=5)
    plan = Plan(version, terms, verify=False, timeout=60, router=router.control)
    ways = [Connection("http", str(router.listen)), Connection("grpc", str(router.listen_grpc))]
    with constant_load(ways, callers=2) as seen:
        return roll_out(verifier(running, models), plan), seen


def protocols(rollout: Rollout) -> list[int]:
    """How many pairs came over each protocol."""
    return [rollout.trial["protocols"].get(protocol, 0) for protocol in PROTOCOLS]


def apart(seen: Seen, answer: float) -> int:
    """How many answers were not this one."""
    return sum(abs(other - answer) > 1e-3 for other in seen.answers)


def test_under_load_a_good_version_takes_over_a_worse_one_does_not_and_no_request_fails(
    running: Server, models: Path
) -> None:
    one = versions(MODEL, models)[-1]
    direct = connection_to(running, "grpc")
    before = first_logit(direct)
    with constant_load(both(running)) as seen, Client(connection_to(running, "http")) as client:
        two = add_version(models, as_good)
        done = promote(verifier(running, models), MODEL, two)
        assert (done.version, done.before, done.difference) == (two, one, 0)
        after = first_logit(direct)
        assert after != pytest.approx(before, abs=0.01)
        three = add_version(models, worse, held=False)
        with pytest.raises(RefusedError, match=rf"version {three} (is .* less accurate than version {two}|failed)"):
            promote(verifier(running, models), MODEL, three)
        assert held_versions(MODEL, models) == [three] and versions(MODEL, models) == [one, two]
        assert first_logit(direct) == pytest.approx(after, abs=1e-4)
        # One that cannot even be loaded leaves no mark: the server would say for ever that it is not ready.
        four = add_version(models, as_good)
        spoil(version_path(MODEL, four, models))
        with pytest.raises(RefusedError, match="cannot be loaded, and is held: .*model.pt"):
            promote(verifier(running, models), MODEL, four)
        assert candidates.served_version(client, MODEL) == two
        assert rollback(client, MODEL, models).version == one
        candidates.settle(client)  # Load goes on for a while on what was rolled back to.
        assert client.is_ready()
        # A candidate leaves nothing on the server.
        assert {model["name"] for model in client.models() if model.get("state") == "READY"} == {MODEL}
        # Of each caller, an answer may have been under way when the first version came back.
        heard = [len(own) for own in seen.by_caller]
        assert soon(lambda: all(len(own) > now + 1 for own, now in zip(seen.by_caller, heard, strict=True)))
    # Two callers at a steady rate; with the native backend all of this takes a few seconds.
    assert not seen.failures and len(seen.answers) > 100
    # The old version, then the new one, then the old one: no answer is another's, and none comes out of turn.
    for own in seen.by_caller:
        assert all(min(abs(answer - before), abs(answer - after)) < 1e-3 for answer in own)
        assert [is_old for is_old, _ in groupby(own, lambda answer: abs(answer - before) < 1e-3)] == [True, False, True]


def test_a_broken_candidate_is_rolled_back_and_its_callers_get_answers_anyway(
    running: Server, router: Router, models: Path
) -> None:
    served, before = versions(MODEL, models), first_logit(connection_to(running, "http"))
    rollout, seen = rolled_out(Broken, "canary", running, router, models)
    trial = rollout.trial
    assert trial["decision"] == "roll back" and trial["reason"].startswith("errors in ")
    assert trial["rescued"] > 0 and trial["under_way"] == 0 and min(protocols(rollout)) > 0
    assert not seen.failures and seen.answers and not apart(seen, before)
    assert versions(MODEL, models) == served and rollout.candidate in held_versions(MODEL, models)


def test_a_worse_candidate_is_rolled_back_from_a_shadow_that_no_caller_sees(
    running: Server, router: Router, models: Path
) -> None:
    served, before = versions(MODEL, models), first_logit(connection_to(running, "http"))
    rollout, seen = rolled_out(turned, "shadow", running, router, models)
    assert rollout.trial["decision"] == "roll back" and not rollout.promoted
    assert rollout.trial["reason"].startswith("disagreement in ")
    assert not seen.failures and seen.answers and not apart(seen, before)
    assert versions(MODEL, models) == served


def test_a_good_candidate_answers_its_share_and_takes_over(running: Server, router: Router, models: Path) -> None:
    direct = connection_to(running, "http")
    before = first_logit(direct)
    rollout, seen = rolled_out(as_good, "canary", running, router, models)
    assert rollout.trial["decision"] == "promote" and rollout.promoted, rollout
    assert min(protocols(rollout)) > 20
    after = first_logit(direct)
    assert not seen.failures and abs(after - before) > 0.01
    assert all(min(abs(answer - before), abs(answer - after)) < 1e-3 for answer in seen.answers)
    assert apart(seen, before) > 50 and apart(seen, after) > 50
    with Client(direct) as client:
        assert candidates.served_version(client, MODEL) == rollout.candidate == versions(MODEL, models)[-1]
        # Through the router the model answers under its own name, whoever computed the answer.
        assert {model["name"] for model in client.models() if model.get("state") == "READY"} == {MODEL}


def test_the_command_brings_its_own_server_router_and_callers(built: Path, tmp_path: Path, command: Command) -> None:
    models = alone(built, tmp_path / "models")
    before, version = versions(MODEL, models)[-1], add_version(models, as_good)
    options = ("--no-verify", "--share", "0.5", "--max-errors", "0.05", "--slower", "5", "--callers", "4")
    done = command("tools.versions", MODEL, "rollout", "--repository", models, *options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert (document["candidate"], document["before"], document["served"]) == (version, before, version)
    assert document["trial"]["decision"] == "promote" and document["callers"]["answered"] > 100
    assert document["callers"]["failed"] == 0 and document["callers"]["why"] == []
    again = command("tools.versions", MODEL, "promote", "--repository", models)
    assert again.returncode == 2 and f"error: {MODEL} version {version} is served already" in again.stderr


def test_requests_outside_a_trial_pass_the_router_unchanged(
    running: Server, router: Router, protocol: Protocol
) -> None:
    direct = connection_to(running, protocol)
    routed = Connection(protocol, str(router.listen if protocol == "http" else router.listen_grpc))
    rows = np.random.default_rng(0).normal(size=(3, 784)).astype(np.float32)
    with Client(direct) as near, Client(routed) as far:
        candidates.settle(near)
        assert far.is_ready() and far.server() == near.server() and far.contract(MODEL) == near.contract(MODEL)
        assert np.array_equal(far.infer(MODEL, rows)["OUTPUT__0"], near.infer(MODEL, rows)["OUTPUT__0"])
        assert far.classify(MODEL, rows, top=3) == near.classify(MODEL, rows, top=3)
        with pytest.raises(ModelNotFound, match="no_such_model"):
            far.contract("no_such_model")
    if protocol == "grpc":
        return
    for encoding in ("gzip", "deflate"):
        headers = {"Accept-Encoding": encoding}
        url = f"/v2/models/{MODEL}/config"
        answers = [requests.get(f"http://{where.url}{url}", headers=headers) for where in (direct, routed)]
        assert answers[0].json() == answers[1].json()


def test_a_stream_passes_the_router(running: Server, router: Router) -> None:
    answers: queue.Queue[tuple[grpc.InferResult | None, Exception | None]] = queue.Queue()
    image = grpc.InferInput("INPUT__0", list(DIGIT.shape), "FP32").set_data_from_numpy(DIGIT)
    with grpc.InferenceServerClient(str(router.listen_grpc)) as streaming:
        streaming.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(3):
            streaming.async_stream_infer(MODEL, [image])
        came = [answers.get(timeout=60) for _ in range(3)]
        streaming.stop_stream()
    logits = [float(result.as_numpy("OUTPUT__0")[0, 0]) for result, error in came if result and not error]
    assert logits == pytest.approx([first_logit(connection_to(running, "grpc"))] * 3, abs=1e-4)


def test_a_router_without_a_server_says_so_and_an_impossible_trial_is_refused() -> None:
    with started_router("127.0.0.1:9", "127.0.0.1:9") as lonely:
        routed = Connection("http", str(lonely.listen), retries=0)
        with Client(routed) as client, pytest.raises(ServerUnavailable, match="gets no answer from 127.0.0.1:9"):
            client.server()
        with pytest.raises(RouterError, match="expected a share of more than 0 and at most 1, got 2"):
            lonely.begin(MODEL, {"candidate": "other", "share": 2})
        with pytest.raises(RouterError, match="no such trial"):
            lonely.end(MODEL)
