"""One version after the other verified through a server."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from clients.client import Client
from clients.command import progress
from clients.connection import Connection, Protocol
from clients.contract import Contract
from clients.errors import ModelNotFound
from clients.golden import complaint
from tools import recipes
from tools.export import pipelines
from tools.export.agreement import BATCH_TOLERANCE
from tools.export.pipelines import classes_of
from tools.recipes import Imported, Pipeline, Recipe
from tools.repository import REPOSITORY, RepositoryError, held_versions, read_manifest, versions
from tools.serve.probes import golden_of
from tools.train import training
from tools.verify.passes import Effort, Pass, Way, assign_rows, common_rows, send, ways
from tools.verify.references import HeldOut, References, answers, held_out
from tools.verify.verdict import Budget, conclude, judge
from tools.verify.verification import Findings, Verification


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
        """Verify the version of a model that the server serves, and record that beside its manifest.

        It is not recorded where only some of the rows were sent, or a remote server may serve other files than the
        repository has now.

        Raises:
            ClientError: the server does not serve it, or a request failed for another reason than the model.
            NoReferenceError: what it should answer cannot be computed here.
            RepositoryError: the version that it serves is not in the repository, or its files have changed.
        """
        began = time.monotonic()
        with self.client() as client:
            contract, served = client.contract(self.names.get(model, model)), self._served_versions(client, model)
            metadata = client.server()
        references, planned = References(self.repository, served), ways(self.effort, contract.max_batch_size)
        sets = [rows.first(self.effort.limit) for rows in held_out(model, served[model], self.repository)]
        findings = self._findings(model, contract, references, sets, planned)
        verdict = Verification(
            model=model,
            version=served[model],
            reference=references.kind(model),
            held_out="; ".join(held.title for held in sets),
            rows=sum(held.rows for held in sets),
            protocols=tuple(self.effort.protocols),
            sizes=tuple(sorted({way.size for way in planned})),
            concurrencies=tuple(sorted({way.concurrency for way in planned})),
            tolerance=_tolerance(model, self.repository),
            server={"name": str(metadata.get("name")), "version": str(metadata.get("version")), "kind": self.kind},
            findings=findings,
            seconds=round(time.monotonic() - began, 2),
            notes=tuple(references.notes.values()),
        )
        # Even a remote server was sent these very files of a model that has another name there.
        is_whole = self.effort.limit is None and (self.kind == "embedded" or model in self.names)
        return self._recorded(verdict) if is_whole else verdict

    def _findings(
        self, model: str, contract: Contract, references: References, sets: Sequence[HeldOut], planned: Sequence[Way]
    ) -> Findings:
        findings, tolerance = Findings(), _tolerance(model, self.repository)
        with training.cpu_threads(1):
            run = references.run(model)
            for given in sets:
                held = given if given.labels is not None else given.answered(run, contract.batched)
                alone, *others = self._send(model, held, planned, contract.batched)
                judge(findings, held, answers(run, held.inputs, contract.max_batch_size), alone, others, tolerance)
        # Some of the rows say too little about accuracy to fail a version for it.
        whole = self.effort.limit is None or sum(held.rows for held in sets) < self.effort.limit
        conclude(findings, tolerance, *(_bounds(model, references.chosen[model], self.repository) if whole else ()))
        findings.failures += self._golden_failures(model, references.chosen)
        return findings

    def _recorded(self, verdict: Verification) -> Verification:
        try:
            verdict.record(self.repository)
        except OSError as error:
            unrecorded = f"the verdict cannot be recorded in {self.repository}: {error.strerror or error}"
            return replace(verdict, notes=(*verdict.notes, unrecorded))
        return verdict

    def client(self, timeout_s: float = 30.0) -> Client:
        """Open a client for queries, over the first protocol."""
        return Client(replace(self.connections[self.effort.protocols[0]], timeout_s=timeout_s))

    def is_right(self, name: str, held: HeldOut) -> npt.NDArray[np.bool_]:
        """Whether a model on the server, by its name there, answers correctly: [rows] of a set with labels."""
        with self.client() as client:
            size = min(16, client.contract(name).max_batch_size)
        way = Way(self.effort.protocols[0], size, 8)
        sent = asyncio.run(send(self.connections[way.protocol], name, way, held.inputs, np.arange(held.rows)))
        return np.asarray(classes_of(sent.outputs, held.classes) == held.labels, np.bool_)

    def _golden_failures(self, model: str, served: Mapping[str, int]) -> list[str]:
        """What is wrong with the answers to the requests that the version carries, over each protocol."""
        golden, name = golden_of(model, served, self.repository), self.names.get(model, model)
        if golden is None:
            return []
        failures = list[str]()
        for protocol in self.effort.protocols:
            with Client(self.connections[protocol]) as client:
                answers = ((case, client.infer(name, case.inputs)) for case in golden.cases)
                wrong = (complaint(case, answer, golden.tolerance) for case, answer in answers)
                failures += [f"a golden request over {protocol}: {words}" for words in wrong if words]
        return failures

    def _served_versions(self, client: Client, model: str) -> dict[str, int]:
        """The versions that requests without one go to: of a model, and of each that it needs."""
        served = {}
        for name in (model, *pipelines.all_members(model, self.repository)):
            contract = client.contract(self.names.get(name, name))
            if not contract.versions:
                raise ModelNotFound(f"the server has no version of {contract.model} ready; load it")
            served[name] = max(map(int, contract.versions))
            if served[name] not in versions(name, self.repository) + held_versions(name, self.repository):
                remedy = "give the --repository that it serves"
                raise RepositoryError(
                    f"the server serves version {served[name]} of {name}, which is not in {self.repository}; {remedy}"
                )
        return served

    def _send(self, model: str, held: HeldOut, planned: Sequence[Way], is_batched: bool) -> list[Pass]:
        """Send the common rows alone, then one set every way."""
        name = self.names.get(model, model)
        first = Way(self.effort.protocols[0], int(is_batched), 1)
        steps = [(first, common_rows(held.rows)), *zip(planned, assign_rows(planned, held.rows), strict=True)]
        # An ensemble forms no batches; its classifier does.
        is_pipeline = isinstance(recipes.load(model), Pipeline)
        batching = pipelines.classifier_of(model, self.repository) if is_pipeline else name
        return [
            asyncio.run(send(self.connections[way.protocol], name, way, held.inputs, rows, batching))
            for way, rows in progress(steps, name)
        ]


def connections(http: str, grpc: str) -> dict[Protocol, Connection]:
    """A server's addresses by protocol."""
    return {"http": Connection("http", http), "grpc": Connection("grpc", grpc)}


def _tolerance(model: str, repository: Path) -> float:
    # At least what export grants a row in another batch, because here the server chooses what a row is computed with.
    recipe = recipes.load(model)
    if isinstance(recipe, Pipeline):
        recipe = recipes.load(pipelines.classifier_of(model, repository))
    return max(recipe.tolerance, BATCH_TOLERANCE) if isinstance(recipe, Recipe | Imported) else BATCH_TOLERANCE


def _bounds(model: str, version: int, repository: Path) -> tuple[float, Budget | None]:
    # The lowest accuracy that the recipe allows, and its budget against the model that this one is made from.
    recipe, manifest = recipes.load(model), read_manifest(model, version, repository)
    if isinstance(recipe, Pipeline):
        return 0.0, Budget(manifest["classifier"], manifest["classifier_accuracy"], recipe.budget)
    if not isinstance(recipe, Recipe):
        return 0.0, None
    floor = dict(recipe.floors or {}).get(manifest["data"]["name"], 0.0)
    if recipe.parent and recipe.budget is not None and "parent_accuracy" in manifest:
        return floor, Budget(recipe.parent, manifest["parent_accuracy"], recipe.budget)
    return floor, None
