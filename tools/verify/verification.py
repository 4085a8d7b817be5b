"""One version of a model verified through a server, and the record of it beside the version's manifest."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.command import progress
from clients.connection import Connection, Protocol
from clients.contract import Contract
from clients.errors import ModelNotFound
from clients.output import write_atomically
from tools import recipes
from tools.export import pipelines
from tools.export.agreement import BATCH_TOLERANCE
from tools.recipes import Imported, Pipeline, Recipe
from tools.repository import (
    REPOSITORY,
    VERIFICATION_FILE,
    RepositoryError,
    held_versions,
    read_manifest,
    version_path,
    versions,
)
from tools.train import training
from tools.verify.heldout import HeldOut, held_out
from tools.verify.passes import Pass, Target, Way, common_rows, go, rows_of, ways
from tools.verify.references import References, answers
from tools.verify.verdict import Findings, conclude, judge


@dataclass(frozen=True)
class Effort:
    """How much is sent, and how; `limit` rows of the held-out set at most."""

    protocols: Sequence[Protocol] = ("http", "grpc")
    sizes: Sequence[int] = (1, 5, 16)
    concurrencies: Sequence[int] = (1, 8, 32)
    limit: int | None = None


@dataclass(frozen=True)
class Verification:
    """What was found about one version.

    Attributes:
        reference: what it was compared with.
        held_out: what was sent.
        rows: how many different rows; `findings.sent` counts each time that one was sent.
        sizes: batch sizes that were sent.
        concurrencies: requests that were under way at once.
        tolerance: absolute and relative.
        server: name, version and kind: "embedded" is known to serve these files, "remote" is not.
    """

    model: str
    version: int
    reference: str
    held_out: str
    rows: int
    protocols: tuple[str, ...]
    sizes: tuple[int, ...]
    concurrencies: tuple[int, ...]
    tolerance: float
    server: Mapping[str, str]
    findings: Findings
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the version may be served."""
        return not self.findings.failures

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"passed": self.passed, **asdict(self)}


@dataclass
class Verifier:
    """Verifies models on one server.

    Attributes:
        reached: the server's addresses.
        kind: "embedded" or "remote".
        say: hears what a person should know.
        names: under which name the server has a model, where it is another one.
    """

    reached: Mapping[Protocol, Connection]
    kind: str
    repository: Path = REPOSITORY
    effort: Effort = field(default_factory=Effort)
    say: Callable[[str], object] = print
    names: Mapping[str, str] = field(default_factory=dict)

    def verify(self, model: str) -> Verification:
        """Verify the version of a model that the server serves.

        Raises:
            ClientError: the server does not serve it, or a request failed for another reason than the model.
            RepositoryError: the version that it serves is not in the repository, or its files have changed.
        """
        began = time.monotonic()
        served = self.served(model)
        references = References(self.repository, served)
        version, tolerance = served[model], tolerance_of(model, self.repository)
        sets = [one.first(self.effort.limit) for one in held_out(model, version, self.repository)]
        findings, used = Findings(), list[Way]()
        with training.cpu_threads(1):
            for held in sets:
                used += self.passes(model, held, references, findings, tolerance)
        whole = self.effort.limit is None or sum(held.rows for held in sets) < self.effort.limit
        conclude(findings, tolerance, *(bounds(model, version, self.repository) if whole else (0.0, None)))
        return Verification(
            model=model,
            version=version,
            reference=references.kind(model),
            held_out="; ".join(held.title for held in sets),
            rows=sum(held.rows for held in sets),
            protocols=tuple(dict.fromkeys(way.protocol for way in used)),
            sizes=tuple(sorted({way.size for way in used})),
            concurrencies=tuple(sorted({way.concurrency for way in used})),
            tolerance=tolerance,
            server=self.server(),
            findings=findings,
            seconds=round(time.monotonic() - began, 2),
            notes=tuple(references.notes.values()),
        )

    def passes(
        self, model: str, held: HeldOut, references: References, findings: Findings, tolerance: float
    ) -> list[Way]:
        """Send one set every way and judge the answers; the ways."""
        name = self.names.get(model, model)
        with self.client() as client:
            contract = client.contract(name)
        expected = answers(references.run(model), held.inputs, contract.batched)
        planned = ways(self.effort.protocols, self.effort.sizes, self.effort.concurrencies, contract.max_batch_size)
        target = Target(name, "", batching_model(model, name, self.repository))
        first = Way(self.effort.protocols[0], int(contract.batched), 1)
        todo = [(first, common_rows(held.rows)), *zip(planned, rows_of(planned, held.rows), strict=True)]
        alone, *others = self.go(target, held, todo)
        judge(findings, held, expected, alone, others, tolerance)
        return planned

    def go(self, target: Target, held: HeldOut, todo: Sequence[tuple[Way, Any]]) -> list[Pass]:
        """Go all ways, with a progress bar."""
        steps = progress(todo, target.model)
        return [go(self.reached[way.protocol], target, way, held.inputs, rows) for way, rows in steps]

    def served(self, model: str) -> dict[str, int]:
        """The version that a request without one goes to, of a model and of each that it needs."""
        with self.client() as client:
            names = [model, *pipelines.all_members(model, self.repository)]
            found = {each: greatest(client.contract(self.names.get(each, each))) for each in names}
        for each, version in found.items():
            if version not in versions(each, self.repository) + held_versions(each, self.repository):
                raise RepositoryError(
                    f"the server serves version {version} of {each}, which {self.repository} has not; give the "
                    "--repository that it serves"
                )
        return found

    def server(self) -> dict[str, str]:
        """Name, version and kind of the server."""
        with self.client() as client:
            about = client.server()
        return {"name": str(about.get("name")), "version": str(about.get("version")), "kind": self.kind}

    def client(self, timeout_s: float = 30.0) -> Client:
        """A client for questions, over the first protocol."""
        return Client(replace(self.reached[self.effort.protocols[0]], timeout_s=timeout_s))


def greatest(contract: Contract) -> int:
    """The version that Triton gives a request which names none.

    Raises:
        ModelNotFound: none is ready.
    """
    if not contract.versions:
        raise ModelNotFound(f"the server has no version of {contract.model} ready; load it")
    return max(map(int, contract.versions))


def batching_model(model: str, name: str, repository: Path) -> str:
    """The model whose batches tell whether the requests of several callers were put together."""
    return pipelines.classifier_of(model, repository) if isinstance(recipes.load(model), Pipeline) else name


def tolerance_of(model: str, repository: Path) -> float:
    """How far a served answer may be from the eager one.

    At least what export grants a row in another batch, because here the server chooses what a row is computed with.
    """
    recipe = recipes.load(model)
    if isinstance(recipe, Pipeline):
        return tolerance_of(pipelines.classifier_of(model, repository), repository)
    return max(recipe.tolerance, BATCH_TOLERANCE) if isinstance(recipe, Recipe | Imported) else BATCH_TOLERANCE


def bounds(model: str, version: int, repository: Path) -> tuple[float, tuple[str, float, float] | None]:
    """The lowest accuracy that the recipe lets be served, and the budget against the model that it comes from."""
    recipe = recipes.load(model)
    manifest = read_manifest(model, version, repository)
    if isinstance(recipe, Pipeline):
        return 0.0, (manifest["classifier"], manifest["classifier_accuracy"], recipe.budget)
    if not isinstance(recipe, Recipe):
        return 0.0, None
    floor = dict(recipe.floors or {}).get(manifest["data"]["name"], 0.0)
    if recipe.parent and recipe.budget is not None and "parent_accuracy" in manifest:
        return floor, (recipe.parent, manifest["parent_accuracy"], recipe.budget)
    return floor, None


def record(one: Verification, repository: Path = REPOSITORY) -> Path:
    """Write a verification beside the manifest, in one rename, with the SHA-256 of the files that it is about."""
    manifest = read_manifest(one.model, one.version, repository)
    files = manifest.get("files", [manifest["file"]] if "file" in manifest else [])
    hashes = {file["name"]: file["sha256"] for file in files}
    document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": hashes, **one.document()}
    path = version_path(one.model, one.version, repository) / VERIFICATION_FILE
    write_atomically(path, json.dumps(document, indent=2) + "\n")
    return path
