"""A version brought to many replicas wave by wave; one wave that fails takes it back everywhere.

Each replica of a wave is compared with replicas that do not have the version yet; the last ones with those that had it
first. Replicas that serve it must go on serving it and answer their callers, whom Triton counts over either protocol.
The repository's folder changes after the last wave: a server that starts before serves what was served before.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.command import say
from clients.connection import PROTOCOLS, Protocol
from clients.contract import Array
from clients.errors import ClientError, InvalidInput, ServerUnavailable
from clients.router.trial import Terms, Trial, below
from clients.statistics import counted
from tools.check.rehearsal import rehearse
from tools.repository import RepositoryError
from tools.versions.candidates import RefusedError, every_version
from tools.versions.choice import choice
from tools.versions.comparison import Comparison
from tools.versions.replicas import Replica, Standing, look, put, sync, take

_LOOK_S = 1.0


@dataclass(frozen=True)
class Fleet:
    """Replicas, and how a version gets to them.

    Attributes:
        terms: of which model, and what a comparison accepts.
        ends: how many replicas have the version after each wave, or which share of them ("50%").
        bake_s: seconds that a wave serves at least.
        timeout_s: for the decision of a wave's comparison.
        protocols: by which the comparison asks.
    """

    replicas: Sequence[Replica]
    terms: Terms
    ends: Sequence[str] = ("1", "50%", "100%")
    bake_s: float = 5.0
    timeout_s: float = 600.0
    protocols: Sequence[Protocol] = PROTOCOLS


@dataclass(frozen=True)
class Wave:
    """What came of a wave.

    Attributes:
        load_seconds: until its replicas served the version.
        pairs: requests sent to a replica of the wave and to another one, and compared.
        requests, failures: of everybody, in all replicas that have the version, since they have it.
        problem: why the wave failed; empty for one that did not.
    """

    replicas: tuple[str, ...]
    seconds: float
    load_seconds: float
    pairs: int
    requests: int
    failures: int
    problem: str = ""

    def __str__(self) -> str:
        seen = f"{self.pairs:,} pairs compared, {self.requests:,} requests answered, {self.failures:,} failed"
        words = f"{', '.join(self.replicas)} loaded in {self.load_seconds:.1f} s; {seen}; {self.seconds:.1f} s"
        return f"{words}; FAILED: {self.problem}" if self.problem else words


@dataclass(frozen=True)
class Waves:
    """All waves, and what each replica serves after them."""

    waves: Sequence[Wave]
    replicas: Sequence[Standing]

    def document(self) -> dict[str, Any]:
        """The waves as JSON."""
        return {"waves": [asdict(wave) for wave in self.waves]}


class WaveFailedError(RefusedError):
    """A wave failed, and the version was taken back from all replicas that answer."""

    def __init__(self, message: str, waves: Waves):
        super().__init__(message)
        self.waves = waves


def grouped(replicas: Sequence[Replica], ends: Sequence[str]) -> list[list[Replica]]:
    """The replicas of each wave; whoever is left belongs to the last one.

    Raises:
        InvalidInput: an end is neither a number of replicas nor a share of them.
    """
    count, marks = len(replicas), {0, len(replicas)}
    for end in ends:
        if not re.fullmatch(r"[1-9][0-9]*%?", end):
            raise InvalidInput(f"--waves: expected a number of replicas or a share such as 50%, got '{end}'")
        marks.add(min(count, math.ceil(count * int(end[:-1]) / 100) if end.endswith("%") else int(end)))
    return [list(replicas[begin:end]) for begin, end in pairwise(sorted(marks))]


def roll(fleet: Fleet, inputs: Mapping[str, Array], version: int, repository: Path) -> Waves:
    """Have all replicas serve a version of a model, wave by wave, and make it the repository's choice.

    Replicas that are away are told at the end, if they are back; else the result says so.

    Args:
        fleet: who serves, and which model.
        inputs: rows to compare them with, by input name.
        version: what to serve.
        repository: where it lies.

    Raises:
        WaveFailedError: a wave failed; the replicas serve what they did before, except those that it names.
        RepositoryError: another model would fail for its sake, or a replica serves what the repository has not.
    """
    model = fleet.terms.model
    choose = choice(model, version, repository)
    rehearse(repository, choose)
    rolling = _Rolling(fleet, Comparison(fleet.terms, inputs, fleet.protocols, fleet.timeout_s), version, repository)
    groups, waves, failure = grouped(list(rolling.before), fleet.ends), list[Wave](), None
    try:
        for number, group in enumerate(groups, 1):
            waves.append(rolling.wave(group))
            say(f"wave {number} of {len(groups)}: {waves[-1]}")
            if problem := waves[-1].problem:
                standings, outcome = rolling.take_back()
                failure = WaveFailedError(f"{outcome}: {problem}", Waves(waves, standings))
                break
        else:
            choose(repository)
    except BaseException:  # Ctrl-C, too.
        say(rolling.take_back()[1])
        raise
    if failure:
        raise failure
    return Waves(waves, sync(fleet.replicas, model, repository))


class _Rolling:
    """A version on its way.

    Attributes:
        before: what each replica served that is there, first those that get the version first.
    """

    def __init__(self, fleet: Fleet, comparison: Comparison, version: int, repository: Path):
        self._fleet, self._comparison = fleet, comparison
        self._model, self._version, self._repository = fleet.terms.model, version, repository
        self._having: list[Replica] = []
        self.before = {each.replica: each.version for each in look(fleet.replicas, self._model) if not each.problem}
        if not self.before:
            raise ServerUnavailable(f"none of {len(fleet.replicas)} replicas answers")
        known = every_version(self._model, repository)
        for replica, served in self.before.items():
            if served and served not in known:
                raise RepositoryError(f"{replica} serves version {served} of {self._model}, which {repository} has not")

    def wave(self, group: Sequence[Replica]) -> Wave:
        """Have replicas serve the version, compare and watch them."""
        began, earlier = time.monotonic(), list(self._having)
        self._having += group
        others = [replica for replica in self.before if replica not in self._having] or earlier
        loaded = put(group, self._model, self._version, self._repository)
        load_seconds, trials = time.monotonic() - began, list[Trial]()
        problem = "; ".join(f"{each.replica}: {each.problem}" for each in loaded if each.problem)
        # Before and after: an earlier replica that went away gives no answers to compare with.
        problem = problem or self._watch(0.0)[2]
        if others and not problem:
            trials = self._comparison.of(group, others)
            problem = "; ".join(filter(None, (self._watch(0.0)[2], *map(self._verdict, group, trials))))
        requests, failures, trouble = self._watch(began + self._fleet.bake_s if not problem else 0.0)
        return Wave(
            tuple(map(str, group)),
            round(time.monotonic() - began, 2),
            round(load_seconds, 2),
            sum(trial.pairs for trial in trials),
            requests,
            failures,
            problem or trouble,
        )

    def take_back(self) -> tuple[list[Standing], str]:
        """Have every replica serve what it did before; returns what all of them serve now, and what became of that."""
        for served in set(self.before.values()):
            replicas = [replica for replica in self._having if self.before[replica] == served]
            if served:
                put(replicas, self._model, served, self._repository)
            else:
                take(replicas, self._model)
        standings = look(self._fleet.replicas, self._model)
        left = ", ".join(filter(None, map(self._left, standings)))
        where = f", but {left} (`sync` brings that up)" if left else " everywhere"
        return standings, f"{self._model} version {self._version} was rolled back{where}"

    def _left(self, standing: Standing) -> str:
        replica = standing.replica
        if replica not in self._having or standing == Standing(replica, self.before[replica]):
            return ""
        return f"{replica} {'does not answer' if standing.problem else f'serves version {standing.version}'}"

    def _verdict(self, replica: Replica, trial: Trial) -> str:
        if trial.decision == "promote":
            return ""
        undecided = f"undecided after {trial.pairs} pairs (--timeout {self._fleet.timeout_s:g})"
        return f"{replica}: {trial.reason or undecided}"

    def _watch(self, end: float) -> tuple[int, int, str]:
        """Until a moment or a problem: requests answered and failed by the replicas that have it, and the problem."""
        while True:
            standings = look(self._having, self._model)
            counts = [self._counts(each.replica) for each in standings if not each.problem]
            requests, failures = (sum(column) for column in zip((0, 0), *counts, strict=True))
            problem = "; ".join(filter(None, map(self._loss, standings))) or self._errors(requests, failures)
            if problem or (left := end - time.monotonic()) <= 0:
                return requests, failures, problem
            time.sleep(min(_LOOK_S, left))

    def _loss(self, standing: Standing) -> str:
        if standing.problem:
            return f"{standing.replica} went away: {standing.problem}"
        if standing.version != self._version:
            return f"{standing.replica} serves version {standing.version} again: it was started anew or healed"
        return ""

    def _errors(self, requests: int, failures: int) -> str:
        terms = self._fleet.terms
        test = below("errors", terms.max_errors, terms.error)
        test.failures, test.observations = failures, requests + failures
        return f"callers got {failures} errors to {requests + failures} requests" if test.verdict == "bad" else ""

    def _counts(self, replica: Replica) -> tuple[int, int]:
        with Client(replica.connection("http")) as client:
            try:
                entries = client.statistics(self._model)
            except ClientError:  # The next look says why.
                return 0, 0
        own = [counted(entry) for entry in entries if entry.get("version") == str(self._version)]
        return sum(each.requests for each in own), sum(each.failures for each in own)
