"""Versions in production: promoted, refused and rolled back under load, without a request that fails."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.client import Client
from tests.conftest import Command, connection_to
from tests.e2e.second_versions import (
    MODEL,
    add_version,
    alone,
    as_good,
    both,
    constant_load,
    explicit,
    first_logit,
    worse,
)
from tools import promotion
from tools.promotion import RefusedError, promote, rollback
from tools.repository import RepositoryError, held_versions, version_path, versions
from tools.tritonserver import Server
from tools.verification import Effort, Verifier
from tools.verify import connections


@pytest.fixture
def models(built: Path, tmp_path: Path) -> Path:
    """A repository with the digit classifier's first version."""
    return alone(built, tmp_path / "models")


@pytest.fixture
def running(models: Path) -> Iterator[Server]:
    """A server of it that takes load requests."""
    with Server(explicit(models)) as server:
        yield server


def verifier(server: Server, repository: Path) -> Verifier:
    effort = Effort(sizes=(1, 16), concurrencies=(1, 8))
    return Verifier(connections(server.http, server.grpc), "remote", repository, effort, lambda line: None)


def test_under_load_a_good_version_takes_over_a_worse_one_does_not_and_no_request_fails(
    running: Server, models: Path
) -> None:
    one = versions(MODEL, models)[-1]
    direct = connection_to(running, "grpc")
    before = first_logit(direct)
    with constant_load(both(running)) as seen, Client(connection_to(running, "http")) as client:
        two = add_version(models, as_good)
        done = promote(verifier(running, models), MODEL, two, models)
        assert (done.version, done.before, done.difference) == (two, one, 0)
        after = first_logit(direct)
        assert after != pytest.approx(before, abs=0.01)
        three = add_version(models, worse, held=False)
        with pytest.raises(RefusedError, match=rf"version {three} (is .* less accurate than version {two}|failed)"):
            promote(verifier(running, models), MODEL, three, models)
        assert held_versions(MODEL, models) == [three] and versions(MODEL, models) == [one, two]
        assert first_logit(direct) == pytest.approx(after, abs=1e-4)
        (version_path(MODEL, three, models) / "model.pt").write_bytes(b"nothing")
        with pytest.raises((RefusedError, RepositoryError), match="model.pt"):
            promote(verifier(running, models), MODEL, three, models)
        assert promotion.served_version(client, MODEL) == two
        assert rollback(client, MODEL, models).version == one
        time.sleep(0.3)  # Load goes on for a while on what was rolled back to.
        # A candidate leaves nothing on the server.
        assert {model["name"] for model in client.models() if model.get("state") == "READY"} == {MODEL}
    assert not seen.failures and len(seen.answers) > 500
    # The old version, then the new one, then the old one: no answer is another's, and none comes out of turn.
    which = [bool(abs(answer - before) < 1e-3) for answer in seen.answers]
    assert which == sorted(which[: which.index(False)], reverse=True) + which[which.index(False) :]
    assert all(min(abs(answer - before), abs(answer - after)) < 1e-3 for answer in seen.answers)
    assert which[0] and which[-1] and not all(which)


def test_a_choice_outlives_the_server(models: Path, command: Command) -> None:
    one, two = versions(MODEL, models)[-1], add_version(models, as_good, held=False)
    result = command("tools.versions", MODEL, "rollback", "--repository", models)
    assert result.returncode == 0, result.stderr
    assert (versions(MODEL, models), held_versions(MODEL, models)) == ([one], [two])
    with Server(explicit(models)) as server, Client(connection_to(server, "http")) as client:
        assert promotion.served_version(client, MODEL) == one
        listed = command("tools.versions", MODEL, "list", "--repository", models, "--url", server.http)
    found = json.loads(listed.stdout.splitlines()[-1])["versions"]
    assert [(version["version"], version["state"], version["server"]) for version in found] == [
        (one, "served", "READY"),
        (two, "held", None),
    ]
    refused = command("tools.versions", MODEL, "rollback", "--repository", models)
    assert refused.returncode == 2 and f"no earlier version to roll back to (held: {two})" in refused.stderr
