"""`--url`: configs that the counters of a running server speak against."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from clients.client import Client
from clients.connection import Connection
from tools.check.finding import Finding, Rule
from tools.check.served import Model

NO_HITS = Rule("cache-no-hits", "A response cache without hits: it costs time and memory for nothing (--url)")
RULES = (NO_HITS,)
ENOUGH = 100  # Requests after which a cache without hits is useless.


def check(models: Iterable[Model], url: str) -> Iterator[Finding]:
    """Yield what the counters of the server at HOST:PORT (HTTP) show about these models.

    Raises:
        ClientError: the server does not answer.
    """
    hits, misses = _cache_counts(url)
    for model in models:
        if model.config.response_cache.enable and not hits[model.name] and misses[model.name] >= ENOUGH:
            yield NO_HITS.at(
                model.place("response_cache"),
                found=f"none of {misses[model.name]} requests was answered from the cache",
                expected="requests that repeat byte for byte",
                remedy="remove response_cache",
            )


def _cache_counts(url: str) -> tuple[dict[str, int], dict[str, int]]:
    """Cache hits and misses of each model, over all its versions."""
    hits: dict[str, int] = defaultdict(int)
    misses: dict[str, int] = defaultdict(int)
    with Client(Connection("http", url)) as client:
        for model in client.statistics():
            counters = model.get("inference_stats", {})
            hits[model["name"]] += int(counters.get("cache_hit", {}).get("count", 0))
            misses[model["name"]] += int(counters.get("cache_miss", {}).get("count", 0))
    return hits, misses
