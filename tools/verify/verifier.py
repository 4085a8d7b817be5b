"""One version after the other verified through a server."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from clients.client import Client
from clients.command import progress
from clients.connection import Connection, Protocol
from clients.errors import ModelNotFound
from tools import recipes
from tools.export import pipelines
from tools.export.agreement import BATCH_TOLERANCE
from tools.recipes import Imported, Pipeline, Recipe
from tools.repository import REPOSITORY, RepositoryError, held_versions, read_manifest, versions
from tools.train import training
from tools.verify.heldout import HeldOut, held_out
from tools.verify.passes import Effort, Way, assign_rows, common_rows, send, ways
from tools.verify.references import References, answers
from tools.verify.verdict import Budget, conclude, judge
from tools.verify.verification import Findings, Verification, record

_QUERY_SECONDS = 30.0


@dataclass
class Verifier:
    """Verifies models on one server.

    Attributes:
        connections: the server's addresses.
        kind: "embedded", which is known to serve the repository's files, or "remote".
        names: names of models on the server that differ from those in the repository.
    """

    connections: Mapping[Protocol, Connection]
    kind: Literal["embedded", "remote"]
    repository: Path = REPOSITORY
    effort: Effort = field(default_factory=Effort)
    names: Mapping[str, str] = field(default_factory=dict)

    def verify(self, model: str) -> Verification:
        """Verify the version of a model that the server serves.

        Raises:
            ClientError: the server does not serve it, or a request failed for another reason than the model.
            NoReferenceError: what it should answer cannot be computed here.
            RepositoryError: the version that it serves is not in the repository, or its files have changed.
        """
        began = time.monotonic()
        served = self._served_versions(model)
        references = References(self.repository, served)
        version, tolerance = served[model], _tolerance(model, self.repository)
        sets = [rows.first(self.effort.limit) for rows in held_out(model, version, self.repository)]
        findings, used = Findings(), list[Way]()
        with training.cpu_threads(1):
            for held in sets:
                used += self._judge(model, held, references, findings, tolerance)
        # Some of the rows say too little about accuracy to fail a version for it.
        whole = self.effort.limit is None or sum(held.rows for held in sets) < self.effort.limit
        conclude(findings, tolerance, *(_bounds(model, version, self.repository) if whole else ()))
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
            server=self._server(),
            findings=findings,
            seconds=round(time.monotonic() - began, 2),
            notes=tuple(references.notes.values()),
        )

    def record(self, verification: Verification) -> None:
        """Write a verification beside the manifest, unless only some of the rows were sent."""
        if self.effort.limit is None:
            record(verification, self.repository)

    def client(self, timeout_s: float = _QUERY_SECONDS) -> Client:
        """Open a client for queries, over the first protocol."""
        return Client(replace(self.connections[self.effort.protocols[0]], timeout_s=timeout_s))

    def _judge(
        self, model: str, held: HeldOut, references: References, findings: Findings, tolerance: float
    ) -> list[Way]:
        """Send one set every way and judge the answers; returns the ways."""
        name = self.names.get(model, model)
        with self.client() as client:
            contract = client.contract(name)
        expected = answers(references.run(model), held.inputs, contract.max_batch_size)
        planned = ways(self.effort, contract.max_batch_size)
        first = Way(self.effort.protocols[0], int(contract.batched), 1)
        steps = [(first, common_rows(held.rows)), *zip(planned, assign_rows(planned, held.rows), strict=True)]
        # An ensemble forms no batches; its classifier does.
        is_pipeline = isinstance(recipes.load(model), Pipeline)
        batching = pipelines.classifier_of(model, self.repository) if is_pipeline else name
        alone, *others = [
            send(self.connections[way.protocol], name, way, held.inputs, rows, batching)
            for way, rows in progress(steps, name)
        ]
        judge(findings, held, expected, alone, others, tolerance)
        return planned

    def _served_versions(self, model: str) -> dict[str, int]:
        """The versions that requests without one go to: of a model, and of each that it needs."""
        names, served = [model, *pipelines.all_members(model, self.repository)], dict[str, int]()
        with self.client() as client:
            contracts = {name: client.contract(self.names.get(name, name)) for name in names}
        for name, contract in contracts.items():
            if not contract.versions:
                raise ModelNotFound(f"the server has no version of {contract.model} ready; load it")
            served[name] = max(map(int, contract.versions))
            if served[name] not in versions(name, self.repository) + held_versions(name, self.repository):
                remedy = "give the --repository that it serves"
                raise RepositoryError(
                    f"the server serves version {served[name]} of {name}, which is not in {self.repository}; {remedy}"
                )
        return served

    def _server(self) -> dict[str, str]:
        with self.client() as client:
            metadata = client.server()
        return {"name": str(metadata.get("name")), "version": str(metadata.get("version")), "kind": self.kind}


def connections(http: str, grpc: str) -> dict[Protocol, Connection]:
    """A server's addresses by protocol."""
    return {"http": Connection("http", http), "grpc": Connection("grpc", grpc)}


def _tolerance(model: str, repository: Path) -> float:
    """How far a served answer may be from the eager one.

    At least what export grants a row in another batch, because here the server chooses what a row is computed with.
    """
    recipe = recipes.load(model)
    if isinstance(recipe, Pipeline):
        return _tolerance(pipelines.classifier_of(model, repository), repository)
    return max(recipe.tolerance, BATCH_TOLERANCE) if isinstance(recipe, Recipe | Imported) else BATCH_TOLERANCE


def _bounds(model: str, version: int, repository: Path) -> tuple[float, Budget | None]:
    """The lowest accuracy that the recipe allows, and its budget against the model that this one is made from."""
    recipe = recipes.load(model)
    manifest = read_manifest(model, version, repository)
    if isinstance(recipe, Pipeline):
        return 0.0, Budget(manifest["classifier"], manifest["classifier_accuracy"], recipe.budget)
    if not isinstance(recipe, Recipe):
        return 0.0, None
    floor = dict(recipe.floors or {}).get(manifest["data"]["name"], 0.0)
    if recipe.parent and recipe.budget is not None and "parent_accuracy" in manifest:
        return floor, Budget(recipe.parent, manifest["parent_accuracy"], recipe.budget)
    return floor, None
