"""What a supervisor does, as it happens: lines of a log, counters for Prometheus, the latest for `clients.status`."""

import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from clients.command import say

_KEPT = 50
# Counted from zero: a rate is not seen where a counter begins with its first event.
_COUNTED = ("died", "sick", "reloaded", "restarting", "healed", "unhealed")
# Events that end up in a log for people; the others are steps of every start.
_TOLD = (*_COUNTED, "unwatched", "lenient", "loaded", "rolling", "rolled", "stopped")


class Journal:
    """Events of one supervisor.

    Attributes:
        registry: of prometheus_client.
        latest: the last events, as JSON.
    """

    def __init__(self, as_json: bool = False, write: Callable[[str], None] = say):
        # Imported late: `--help` does without.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._as_json, self._write = as_json, write
        self.latest: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.registry = CollectorRegistry()
        own, prefix, where = self.registry, "triton_supervisor_", ["replica", "model"]
        self._events = Counter(f"{prefix}events", "What happened, by event", [*where, "event"], registry=own)
        self._up = Gauge(f"{prefix}replica_up", "1 while a replica takes requests", ["replica"], registry=own)
        self._healthy = Gauge(
            f"{prefix}model_healthy", "0 while a model answers wrongly, late or not", where, registry=own
        )
        self._probes = Counter(f"{prefix}probes", "Golden requests, by outcome", [*where, "outcome"], registry=own)
        self._seconds = Histogram(f"{prefix}probe_seconds", "Time of golden requests", where, registry=own)

    def expect(self, replica: str) -> None:
        """Begin the counters of a replica at zero."""
        self._up.labels(replica).set(0)
        for event in _COUNTED:
            self._events.labels(replica, "", event)

    def tell(self, event: str, text: str, replica: str = "", model: str = "", **facts: Any) -> None:
        """Log an event, and count it."""
        self._events.labels(replica, model, event).inc()
        given = {"replica": replica, "model": model, **facts, "text": text}
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        document = {"at": at, "event": event, **{key: value for key, value in given.items() if value != ""}}
        self.latest.append(document)
        if self._as_json:
            self._write(json.dumps(document))
        elif event in _TOLD:
            self._write(": ".join(filter(None, (replica, model, text))))

    def log(self, replica: str, line: str) -> None:
        """Pass a line of tritonserver's own log on."""
        self._write(json.dumps({"event": "log", "replica": replica, "text": line}) if self._as_json else line)

    def replica_is(self, replica: str, is_up: bool) -> None:
        """Note whether a replica takes requests."""
        self._up.labels(replica).set(is_up)

    def model_is(self, replica: str, model: str, is_healthy: bool) -> None:
        """Note whether a model answers as it should."""
        self._healthy.labels(replica, model).set(is_healthy)

    def asked(self, replica: str, model: str, outcome: str, seconds: float) -> None:
        """Count a golden request."""
        self._probes.labels(replica, model, outcome).inc()
        self._seconds.labels(replica, model).observe(seconds)
