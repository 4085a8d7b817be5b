"""What was seen of a server: all that the rules ask, as values that tests can record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.analysis.predict import Line
from loadtest.analysis.server_side import ServerSide, member_names

READY = "READY"


@dataclass(frozen=True)
class ModelSeen:
    """One model of a server, and what it did while it was watched."""

    name: str
    state: str = READY
    reason: str = ""
    versions: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)  # as the server gives it; empty where it does not serve it
    server: ServerSide | None = None  # without seconds: since its start, for nobody sent requests meanwhile
    queue_us: tuple[float, ...] = ()  # mean wait of a request in each part of the time
    waiting: tuple[int, ...] = ()  # requests in the queue at the ends of these parts; empty where unknown
    line: Line | None = None  # times of executions, measured one by one
    callers: int = 0  # of our own load; 0 where others' requests were watched

    @property
    def stages(self) -> dict[str, float]:
        """µs of a request by stage."""
        return self.server.counted.stages() if self.server else {}

    @property
    def members(self) -> set[str]:
        """The models of an ensemble's steps; none for others."""
        return member_names(self.config)


@dataclass(frozen=True)
class Seen:
    """A server while it was watched."""

    url: str
    version: str
    seconds: float
    models: tuple[ModelSeen, ...]
    is_loopback: bool = True  # whether its address leads to this host alone
    open_apis: tuple[str, ...] = ()  # what it would let us do besides inference
    has_summaries: bool = False
    gpu_share: float | None = None
    notes: tuple[str, ...] = ()  # what could not be asked, and why

    @property
    def served(self) -> Mapping[str, ModelSeen]:
        """The models that it serves, by name."""
        return {model.name: model for model in self.models if model.config}

    def document(self) -> dict[str, Any]:
        """As JSON, without the configs."""
        document = asdict(self)
        for model in document["models"]:
            del model["config"]
        return document
