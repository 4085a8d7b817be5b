"""Versions in production: promoted, refused and rolled back under load, without a request that fails."""

import hashlib
import json
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
from tools import candidates, promotion
from tools.examination import RefusedError
from tools.promotion import promote, rollback
from tools.repository import MANIFEST_FILE, RepositoryError, held_versions, staged_version, version_path, versions
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
    effort = Effort(sizes=(16,), concurrencies=(8,))
    return Verifier(connections(server.http, server.grpc), "remote", repository, effort, lambda line: None)


def spoil(folder: Path) -> None:
    """Put something in the place of a version's file that is no model, as if it had been published so."""
    (folder / "model.pt").write_bytes(b"nothing")
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["file"]["sha256"] = hashlib.sha256(b"nothing").hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


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
        # One that cannot even be loaded leaves no mark: the server would say for ever that it is not ready.
        four = add_version(models, as_good)
        spoil(version_path(MODEL, four, models))
        with pytest.raises(RefusedError, match="cannot be loaded, and is held: .*model.pt"):
            promote(verifier(running, models), MODEL, four, models)
        assert candidates.served_version(client, MODEL) == two
        assert rollback(client, MODEL, models).version == one
        candidates.settle(client)  # Load goes on for a while on what was rolled back to.
        assert client.is_ready()
        # A candidate leaves nothing on the server.
        assert {model["name"] for model in client.models() if model.get("state") == "READY"} == {MODEL}
    assert not seen.failures and len(seen.answers) > 500
    # The old version, then the new one, then the old one: no answer is another's, and none comes out of turn.
    which = [bool(abs(answer - before) < 1e-3) for answer in seen.answers]
    assert which == sorted(which[: which.index(False)], reverse=True) + which[which.index(False) :]
    assert all(min(abs(answer - before), abs(answer - after)) < 1e-3 for answer in seen.answers)
    assert which[0] and which[-1] and not all(which)


def test_a_choice_is_in_the_repository_and_outlives_the_server(models: Path, command: Command) -> None:
    one, two = versions(MODEL, models)[-1], add_version(models, as_good, held=False)
    add_version(models, as_good)
    assert rollback(None, MODEL, models).version == one
    assert (versions(MODEL, models), held_versions(MODEL, models)) == ([one], [two, two + 1])
    with pytest.raises(RepositoryError, match=rf"no earlier version to roll back to \(held: {two}, {two + 1}\)"):
        rollback(None, MODEL, models)
    with Server(explicit(models)) as server, Client(connection_to(server, "http")) as client:
        assert candidates.served_version(client, MODEL) == one
        listed = command("tools.versions", MODEL, "list", "--repository", models, "--url", server.http)
    found = json.loads(listed.stdout.splitlines()[-1])["versions"]
    assert [(version["version"], version["state"], version["server"]) for version in found] == [
        (one, "served", "READY"),
        (two, "held", None),
        (two + 1, "held", None),
    ]
    # What is served stays, however old it is.
    assert promotion.prune(MODEL, 1, models) == [two]
    assert (versions(MODEL, models), held_versions(MODEL, models)) == ([one], [two + 1])


def test_a_number_is_never_given_twice_and_a_config_that_chooses_by_number_is_refused(models: Path) -> None:
    two = add_version(models, as_good)
    with pytest.raises(RepositoryError, match=rf"/{two} exists and versions never change"):
        add_version_again(models, two)
    config = models / MODEL / "config.pbtxt"
    config.write_text(config.read_text().replace("latest { num_versions: 1 }", "specific { versions: [ 1 ] }"))
    with pytest.raises(RepositoryError, match="config.pbtxt names versions in version_policy"):
        rollback(None, MODEL, models)


def add_version_again(models: Path, version: int) -> None:
    with staged_version(MODEL, version, models):
        pass
