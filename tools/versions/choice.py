"""Which version of a model is served: the choice is where the folders lie.

What is served is what Triton sees: the newest version folder. A version that is not to be served lies in `.held/`,
where Triton does not look. So the state is the repository itself, and holds for every server that starts on it, in any
control mode. A load request with another version policy would hold only until the server restarts, and a policy in a
file would have to be repeated in config.pbtxt, which people own, and in each config derived from it.
"""

from collections.abc import Callable
from pathlib import Path

from clients.client import Client
from clients.errors import ClientError, ServerFailed
from tools.check.rehearsal import rehearse
from tools.repository import held_versions, hold, release, versions
from tools.versions.candidates import RefusedError, served_version


def choice(model: str, version: int, repository: Path) -> Callable[[Path], None]:
    """What makes a version the newest that Triton sees, in the repository or in a copy of it."""
    newer = [number for number in versions(model, repository) if number > version]
    was_held = version in held_versions(model, repository)

    def choose(place: Path) -> None:
        # In this order a server that starts in between finds the old version or the new one, and no third.
        if was_held:
            release(model, version, place)
        for number in newer:
            hold(model, number, place)

    return choose


def switch(client: Client | None, model: str, version: int, repository: Path) -> None:
    """Make a version the newest that Triton sees, and have the server load it; without a server it finds it later.

    If it fails to load, everything is as it was, and RefusedError is raised; RepositoryError if another model would
    fail for its sake.
    """
    visible, choose = versions(model, repository), choice(model, version, repository)
    rehearse(repository, choose)
    choose(repository)
    if client is None:
        return
    try:
        client.load(model)
        served = served_version(client, model)
        if served != version:
            raise ServerFailed(f"the server serves version {served}; is {repository} the repository that it serves?")
    except ClientError as error:
        now = versions(model, repository)
        for number in set(visible) - set(now):
            release(model, number, repository)
        for number in set(now) - set(visible):
            hold(model, number, repository)
        still = f"version {max(visible)} is still served" if visible else "none is served"
        raise RefusedError(f"{model} version {version} failed to load; {still}: {error}") from error
