"""A family of language models measured through one server: perplexity, size, memory, latency and tokens per second."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from clients.client import Client
from clients.command import progress
from clients.connection import Connection
from tools import recipes
from tools.bench.streams import Streamed, stories, stream
from tools.compare.measurement import built
from tools.recipes import LanguageModel
from tools.repository import read_manifest, version_path, versions
from tools.serve.tritonserver import Options, Server
from tools.serve.usage import memory_by_model

_READY_SECONDS = 300.0
_TOKENS = 32  # of each stream
NOTES = (
    "Bold: the Pareto front, models that no other one equals or beats in both perplexity and tokens per second. "
    "Perplexity: OpenVINO's when the model was exported, on the text written for that; lower is better. Size: "
    "OpenVINO's weights. Memory: what loading the model adds to the embedded server. Speed: through the server, over "
    f"gRPC, {_TOKENS} tokens a stream, medians of interleaved rounds."
)


@dataclass(frozen=True)
class LanguageMember:
    """One model of a family, measured; first_ms and between_ms are of a single stream, rate is of many."""

    name: str
    version: int
    precision: str
    perplexity: float
    stand_in: bool
    file_bytes: int
    memory_bytes: int
    first_ms: float
    between_ms: float
    rate_alone: float
    rate: float


def measure_languages(
    model: str, rounds: int, streams: int, hardware: str, repository: Path
) -> tuple[list[LanguageMember], str]:
    """Serve a language model's family and measure its members, the root first; also returns whence the weights came.

    Raises:
        RepositoryError: fewer than two members have a version.
    """
    members = built(_family(model), repository)
    flags = ["--model-control-mode=explicit"]
    with Server(Options(repository, hardware=hardware, ready_timeout=_READY_SECONDS, flags=flags)) as server:
        with Client(Connection("grpc", server.grpc, timeout_s=_READY_SECONDS)) as client:
            memory = memory_by_model(server.pid, client, members)
        alone: dict[str, list[Streamed]] = {name: [] for name in members}
        many: dict[str, list[Streamed]] = {name: [] for name in members}
        for name in progress([*members] * (rounds + 1), "speed"):
            alone[name].append(stream(server.grpc, name, stories(1), _TOKENS))
            many[name].append(stream(server.grpc, name, stories(streams), _TOKENS))
            server.check()
    measured = [
        # The first round warms up.
        _member(name, repository, memory[name], alone[name][1:], many[name][1:], streams)
        for name in members
    ]
    return measured, str(_said(members[0], repository)["source"])


def _family(model: str) -> list[str]:
    languages = {name: recipe for name in recipes.names() if isinstance(recipe := recipes.load(name), LanguageModel)}
    root = languages[model].parent or model
    return [root, *(name for name, recipe in languages.items() if recipe.parent == root)]


def _said(model: str, repository: Path) -> dict[str, Any]:
    language: dict[str, Any] = read_manifest(model, versions(model, repository)[-1], repository)["language"]
    return language


def _member(
    name: str, repository: Path, memory: int, alone: Sequence[Streamed], many: Sequence[Streamed], streams: int
) -> LanguageMember:
    version, said = versions(name, repository)[-1], _said(name, repository)
    return LanguageMember(
        name=name,
        version=version,
        precision=said["precision"],
        perplexity=said["perplexity"],
        stand_in=said["stand_in"],
        file_bytes=(version_path(name, version, repository) / "openvino_model.bin").stat().st_size,
        memory_bytes=memory,
        first_ms=round(1e3 * median(seconds for one in alone for seconds in one.first), 2),
        between_ms=round(1e3 * median(seconds for one in alone for seconds in one.between), 2),
        rate_alone=round(_TOKENS / median(one.seconds for one in alone), 1),
        rate=round(streams * _TOKENS / median(one.seconds for one in many), 1),
    )


def table(members: Sequence[LanguageMember]) -> list[list[str]]:
    """The members as rows under a header."""
    root = members[0]
    header = ["model", "weights", "perplexity", "÷ root", "size MB", "memory MB", "first token ms", "between tokens ms"]
    rows = [
        [
            *(one.name, one.precision, f"{one.perplexity:.2f}", f"{one.perplexity / root.perplexity:.3f}"),
            *(f"{one.file_bytes / 1e6:,.0f}", f"{one.memory_bytes / 1e6:,.0f}"),
            *(f"{one.first_ms:.1f}", f"{one.between_ms:.1f}", f"{one.rate_alone:,.0f}", f"{one.rate:,.0f}"),
            f"{one.rate / root.rate:.2f}",
        ]
        for one in members
    ]
    return [[*header, "tokens/s of one", "of many", "÷ root"], *rows]
