"""`--url`: what the counters of a running server say against its configs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from clients.client import Client
from clients.connection import Connection
from tools.check.finding import Finding, Rule
from tools.check.served import Model

NO_HITS = Rule(
    "cache-no-hits", "A response cache whose model is never asked the same twice: it costs and gives nothing (--url)"
)
RULES = (NO_HITS,)
ENOUGH = 100  # Requests, before which a cache may simply not have had its chance.


def check(models: Iterable[Model], url: str) -> Iterator[Finding]:
    """All that the counters of the server at HOST:PORT (HTTP) tell about these models.

    Raises:
        ClientError: the server does not answer.
    """
    hits, misses = counted(url)
    for model in models:
        if model.config.response_cache.enable and not hits[model.name] and misses[model.name] >= ENOUGH:
            yield NO_HITS.at(
                model.place("response_cache"),
                found=f"none of {misses[model.name]} requests was answered from the cache",
                expected="requests that come again, byte by byte",
                remedy="remove response_cache",
            )


def counted(url: str) -> tuple[dict[str, int], dict[str, int]]:
    """How many requests each model's cache answered, and how many it did not, over all versions."""
    hits: dict[str, int] = defaultdict(int)
    misses: dict[str, int] = defaultdict(int)
    with Client(Connection("http", url)) as client:
        for one in client.statistics():
            counters = one.get("inference_stats", {})
            hits[one["name"]] += int(counters.get("cache_hit", {}).get("count", 0))
            misses[one["name"]] += int(counters.get("cache_miss", {}).get("count", 0))
    return hits, misses
