"""Which version is served is where its folder lies: it outlives the server, and a number is never given twice."""

from pathlib import Path

import pytest

from clients.client import Client
from tests.conftest import connection_to, served
from tests.e2e.second_versions import MODEL, add_version, alone, as_good, explicit
from tools.repository import RepositoryError, held_versions, staged_version, versions
from tools.versions import candidates, promotion
from tools.versions.listing import states
from tools.versions.promotion import rollback


@pytest.fixture
def models(built: Path, tmp_path: Path) -> Path:
    """A repository with the digit classifier's first version."""
    return alone(built, tmp_path / "models")


def test_a_choice_is_in_the_repository_and_outlives_the_server(models: Path) -> None:
    one, two = versions(MODEL, models)[-1], add_version(models, as_good, held=False)
    add_version(models, as_good)
    assert rollback(None, MODEL, models).version == one
    assert (versions(MODEL, models), held_versions(MODEL, models)) == ([one], [two, two + 1])
    with pytest.raises(RepositoryError, match=rf"no earlier version to roll back to \(held: {two}, {two + 1}\)"):
        rollback(None, MODEL, models)
    with served(explicit(models)) as server, Client(connection_to(server, "http")) as client:
        assert candidates.served_version(client, MODEL) == one
        described = states(MODEL, models, client)
    assert [(version.version, version.state, version.server) for version in described] == [
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
