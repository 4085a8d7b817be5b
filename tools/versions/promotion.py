"""Which version of a model is served: promoted after it has shown itself, rolled back, removed.

What is served is what Triton sees: the newest version folder. A version that is not to be served lies in `.held/`,
where Triton does not look. So the state is the repository itself: it holds for every server that starts on it, in any
control mode, with any of its configs, embedded or NVIDIA's, and `ls` shows it. A load request with another version
policy would do without the renames, but only until the server restarts; and a policy in a file would have to be
repeated in config.pbtxt, which people own, and in each config derived from it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients.client import Client
from clients.errors import ClientError, RequestRejected, ServerFailed
from tools.repository import (
    REPOSITORY,
    RepositoryError,
    held_versions,
    hold,
    read_config,
    release,
    remove_version,
    versions,
)
from tools.sign.signatures import refuse_breached
from tools.verify.references import check_files
from tools.verify.verification import Verification, Verifier
from tools.versions.candidates import candidate, served_version
from tools.versions.examination import RefusedError, examine, refuse_worse

LOAD_SECONDS = 300.0
NOT_EXPLICIT = " (a server takes load requests with --model-control-mode=explicit, as tools.serve starts it)"


@dataclass(frozen=True)
class Promoted:
    """What is served now, and instead of what; `difference` is the gain in accuracy on the same rows."""

    model: str
    version: int
    before: int | None
    verification: Verification | None = None
    difference: float | None = None


def every_version(model: str, repository: Path) -> list[int]:
    """Served, kept and held versions, oldest first."""
    return sorted(versions(model, repository) + held_versions(model, repository))


def serving(model: str, repository: Path) -> int | None:
    """The version that a server would serve that starts now."""
    return max(versions(model, repository), default=None)


def check_policy(model: str, repository: Path) -> None:
    """Refuse a model whose config chooses versions by number: folders then decide nothing.

    Raises:
        RepositoryError: as said.
    """
    if read_config(model, repository=repository).version_policy.HasField("specific"):
        raise RepositoryError(
            f"{model}/config.pbtxt names versions in version_policy; let it be `latest` to promote any"
        )


def promote(
    verifier: Verifier,
    model: str,
    version: int,
    repository: Path = REPOSITORY,
    allow_worse: bool = False,
    public_key: Path | None = None,
) -> Promoted:
    """Have a version loaded beside the served one, warmed and verified, and then served in its place.

    Args:
        verifier: with the server.
        model: its name.
        version: one that lies in the repository, held or not.
        repository: the one that the server serves.
        allow_worse: promote it even if it is significantly less accurate than the one that it replaces.
        public_key: promote it only if it was signed with the private key to this one.

    Raises:
        RefusedError: it failed; it is held, and what was served still is.
        ClientError: the server takes no load requests, or went away.
    """
    with verifier.client(timeout_s=LOAD_SECONDS) as client:
        with beside(client, model, version, repository, public_key) as (name, before):
            verification, gain = examine(verifier, model, name, version, before, repository)
        if not allow_worse:
            refuse_worse(model, version, before, verification, gain)
        switch(client, model, version, repository)
    return Promoted(model, version, before, verification, gain[0] if gain else None)


@contextmanager
def beside(
    client: Client, model: str, version: int, repository: Path, public_key: Path | None = None
) -> Iterator[tuple[str, int | None]]:
    """A version on the server beside the one that is served; the block gets its name there and the served version.

    Raises:
        RepositoryError: there is no such version, it is served already, or it is not what was signed.
        RefusedError: the server cannot load it.
    """
    check_policy(model, repository)
    if version not in every_version(model, repository):
        known = ", ".join(map(str, every_version(model, repository))) or "none"
        raise RepositoryError(f"{model} has no version {version}; there are: {known}")
    before = served_version(client, model)
    if version == before == serving(model, repository):
        raise RepositoryError(f"{model} version {version} is served already")
    # Before the server gets them: what it once failed to load is hard to make it forget.
    check_files(model, version, repository)
    if public_key:
        refuse_breached(model, version, public_key, repository)
    # From here on a server that starts does not find it by itself.
    if version != before and version in versions(model, repository):
        hold(model, version, repository)
    with loaded(client, model, version, repository) as name:
        yield name, before


@contextmanager
def loaded(client: Client, model: str, version: int, repository: Path) -> Iterator[str]:
    """The candidate on the server, under the name that the block gets.

    Raises:
        RefusedError: the server cannot load it.
    """
    with ExitStack() as stack:
        try:
            name = stack.enter_context(candidate(client, model, version, repository))
        except (RequestRejected, ServerFailed) as error:
            raise RefusedError(
                f"{model} version {version} cannot be loaded, and is held: {error}{NOT_EXPLICIT}"
            ) from error
        yield name


def switch(client: Client | None, model: str, version: int, repository: Path) -> None:
    """Make a version the newest that Triton sees, and have the server load it; without a server it finds it later.

    Raises:
        RefusedError: it could not be loaded; everything is as it was.
    """
    newer = [one for one in versions(model, repository) if one > version]
    was_held = version in held_versions(model, repository)
    # In this order a server that starts in between finds the old version or the new one, and no third.
    if was_held:
        release(model, version, repository)
    for one in newer:
        hold(model, one, repository)
    if client is None:
        return
    try:
        client.load(model)
        found = served_version(client, model)
        if found != version:
            raise ServerFailed(f"the server serves version {found}; is {repository} the repository that it serves?")
    except ClientError as error:
        for one in newer:
            release(model, one, repository)
        if was_held:
            hold(model, version, repository)
        raise RefusedError(f"{model} version {version} could not take over, and what was served is: {error}") from error


def rollback(
    client: Client | None, model: str, repository: Path = REPOSITORY, public_key: Path | None = None
) -> Promoted:
    """Serve the version that was served before the newest one again; the newest is held.

    Raises:
        RefusedError, RepositoryError: there is none, it is not what was signed with the private key to the public one
            (if that is given), or it cannot be loaded; nothing has changed.
    """
    check_policy(model, repository)
    seen = versions(model, repository)
    if len(seen) < 2:
        held = ", ".join(map(str, held_versions(model, repository))) or "none"
        raise RepositoryError(
            f"{model} has no earlier version to roll back to (held: {held}); promote one by its number"
        )
    if public_key:
        refuse_breached(model, seen[-2], public_key, repository)
    switch(client, model, seen[-2], repository)
    return Promoted(model, seen[-2], seen[-1])


def prune(model: str, keep: int, repository: Path = REPOSITORY) -> list[int]:
    """Remove all versions but the newest `keep`, the one that is served, and the one that a rollback would serve.

    Returns:
        Those that were removed.
    """
    wanted = {*every_version(model, repository)[-keep:], *versions(model, repository)[-2:]}
    removed = [one for one in every_version(model, repository) if one not in wanted]
    for one in removed:
        remove_version(model, one, repository)
    return removed
