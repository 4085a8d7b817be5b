"""What bounds a model, by what its server counted, in words, and how much a change should help.

The predictions come from old results and name them: the utilization law, by which work divides by the machines that
share it, Little's law, by which rate times time is the number of requests under way, and M/M/1 and M/D/1, by which the
wait for one machine grows as busy / (1 - busy) (Kleinrock, Queueing Systems I, 1975); and from the times of executions
(`loadtest.analysis.predict`). They are for choosing the next experiment, not a substitute for it.
"""

from collections.abc import Mapping

from loadtest.analysis.predict import RATE, TIME, Gain, Line, line_through, rate
from loadtest.analysis.result import Finding
from loadtest.analysis.server_side import ServerSide

AT_ONCE = 8  # requests that callers should have under way, where they have one
_FULL = 0.85  # of the instances' time, above which the queue dominates
_LARGE = 0.4  # of a request's time, for a part to be named
_IN_TURN = 0.3  # of the instances' time, below which callers in turn are just few
_LITTLE = 0.25  # of a core
_ENOUGH = 100  # requests, by which a cache is judged
_BATCHED = 1.5  # inferences per execution, above which requests are batched
_SMALLER_MODEL = "a smaller or quantized variant"
_UNKNOWN = "unknown: only one batch size was seen; try --client-batch 8"


def bounds(
    server: ServerSide,
    stages: Mapping[str, float],
    steady: bool = True,
    rates: str = "",
    line: Line | None = None,
    is_alone: bool = False,
) -> list[Finding]:
    """Find what bounds a model by what its server counted, the most important first; none if no part stands out.

    Args:
        server: what it did.
        stages: µs of a request in each stage.
        steady: whether it kept up.
        rates: what to say of them.
        line: times of executions, where they were measured on purpose.
        is_alone: whether nothing else was executed meanwhile.
    """
    line, busy = line or line_through(server.batches), server.busy_share()
    if busy is None:  # An ensemble, or nobody knows for how long it was counted.
        found = _capped(server, stages, line) or _delayed(server, stages, line)
        return _cache(server) + found + _parts(stages, steady)
    found = _crowd(server, line, is_alone) or _in_turn(server, stages, busy, line) if steady else []
    found = found or _capped(server, stages, line)
    if not found and (busy > _FULL or not steady):
        found = _saturation(server, busy, rates, line)
    found = found or _delayed(server, stages, line) or _waiting(server, stages, busy)
    return _cache(server) + found + _parts(stages, steady)


def _cache(server: ServerSide) -> list[Finding]:
    """A hit saves queue and computation, but every request pays for the lookup, and a miss for the insertion."""
    count, stages, time_us = server.cache_hits + server.cache_misses, server.counted.stages(), server.time_us or 0.0
    share = server.cache_hits / max(1, count)
    saved = share * (sum(stages.values()) - (server.cache_hit_us or 0.0))
    spent = (1 - share) * (server.cache_miss_us or 0.0)
    least = 0.01 * time_us if server.cache_hits else 0.0
    if count < _ENOUGH or not least < spent - saved < time_us:
        return []
    why = (
        f"{share:.0%} of {count:,} requests were answered by the response cache; per request it costs {spent:,.0f} µs "
        f"and saves {saved:,.0f}"
    )
    # Requests are in the queue already while their inputs are hashed.
    unexplained = stages["queue"] - _chance(server, stages) if server.busy_instances is not None else 0.0
    hashing = (1 - share) * min(max(0.0, unexplained), stages["compute_infer"])
    by = "without its cost, its hits, and the wait that chance does not explain: hashing"
    gain = Gain(TIME, time_us, max(1.0, time_us - spent - hashing + saved), by)
    return [_finding("response cache", why, "no response_cache", gain, "")]


def _compute_us(stages: Mapping[str, float]) -> float:
    """µs of a request that are computation, with its copies."""
    return sum(us for stage, us in stages.items() if stage.startswith("compute"))


def _chance(server: ServerSide, stages: Mapping[str, float]) -> float:
    """µs that a request waits if arrivals know nothing of each other (M/D/1)."""
    service = _compute_us(stages)
    busy = min(server.busy_share() or 0.0, 0.99)
    return busy / (1 - busy) / 2 * service / max(1, server.batching.instances)


def _crowd(server: ServerSide, line: Line | None, is_alone: bool) -> list[Finding]:
    """More instances at work than cores: each takes longer, and each gets a smaller batch."""
    batching, cpus, busy = server.batching, server.cpus or 0, server.busy_instances or 0.0
    has_room = server.idle_cores is None or server.idle_cores > 0.2 * cpus
    if not cpus or batching.on_gpu or has_room or batching.instances <= cpus or busy < 1.2 * cpus:
        return []
    why = f"{busy:.1f} of {batching.instances} instances are busy at once on {cpus} cores, {_mean_batch(server)}"
    share = 1.0 if is_alone else cpus / busy  # of the time of an execution that it waited for no core
    after = Line(line.fixed_us * share, line.each_us * share) if line else None
    largest = max(1, batching.max_batch_size) if batching.dynamic_batching else 1
    gain = Gain(RATE, server.rps, rate(server.callers, cpus, largest, after), str(after)) if after else None
    return [_finding("too many instances", why, f"{cpus} instances", gain, "less memory, and larger batches")]


def _in_turn(server: ServerSide, stages: Mapping[str, float], busy: float, line: Line | None) -> list[Finding]:
    """Nobody waits, as if arrivals knew of each other: each caller waits for an answer before it sends again."""
    batching, chance, queue = server.batching, _chance(server, stages), stages.get("queue", 0.0)
    is_batched = batching.max_batch_size < 2 or (server.counted.mean_batch or 1) > _BATCHED
    # Whoever waits for the others is none of them, however busy the instances are.
    if busy < _IN_TURN or is_batched or queue > min(chance, _compute_us(stages)) / 4:
        return []
    why = (
        f"the {batching.instances} instance(s) are busy for {busy:.0%} of the time, and yet requests wait {queue:,.0f} "
        f"µs, where arrivals by chance would wait {chance:,.0f}: each caller sends its "
        "next request after an answer, so that batches cannot form"
    )
    largest = batching.max_batch_size if batching.dynamic_batching else 1
    filled = Gain(RATE, server.rps, server.rps / min(1.0, busy), "the instances never idle: utilization law")
    gain = _rates(server, line, 1, largest, AT_ONCE) or filled
    change = f"{AT_ONCE} requests at once (threads, asyncio, clients.batch), or several inputs per request"
    return [_finding("callers in turn", why, change, gain, "")]


def _capped(server: ServerSide, stages: Mapping[str, float], line: Line | None) -> list[Finding]:
    """Preferred batch sizes are also the largest that form while more wait."""
    batching, runs = server.batching, {size: entry.executions for size, entry in server.batches.items()}
    preferred, total, queue = batching.preferred, sum(stages.values()), stages.get("queue", 0.0)
    if not preferred or max(preferred) >= batching.max_batch_size or queue < _LARGE * total:
        return []
    share = sum(runs.get(size, 0) for size in preferred) / max(1, sum(runs.values()))
    if share < 0.5 or max(runs) > max(preferred):
        return []
    sizes = ", ".join(map(str, preferred))
    why = (
        f"{share:.0%} of the executions have a preferred size ({sizes}) and none a larger one, though "
        f"{batching.max_batch_size} are allowed and requests wait {queue:,.0f} of {total:,.0f} µs"
    )
    gain = _rates(server, line, max(preferred), batching.max_batch_size)
    return [_finding("preferred sizes", why, "no preferred_batch_size", gain, _UNKNOWN)]


def _saturation(server: ServerSide, busy: float, rates: str, line: Line | None) -> list[Finding]:
    batching, count = server.batching, server.batching.instances
    why = f"{count} instance(s) are busy for {busy:.0%} of the time{rates}"
    if busy <= _FULL:
        why += "; the instances are not saturated, so what surrounds them (protocol, copies, other processes) is"
        change = "fewer other processes on its host, larger --client-batch, the other protocol"
        unknown = f"unknown; the server has {server.cpus or 'an unknown number of'} cores"
        return [Finding("cores", why, change, unknown)]
    why += f"; {_mean_batch(server)}"
    if batching.max_batch_size > 1 and (server.counted.mean_batch or 1) < _BATCHED:
        waits = "to let requests wait for a batch: max_queue_delay_microseconds"
        change = waits if batching.dynamic_batching else "dynamic_batching"
        gain = _rates(server, line, 1, batching.max_batch_size)
        return [_finding("batching", why, change, gain, _batch_gain(line, batching.max_batch_size))]
    if _has_core(server):
        factor = (count + 1) / count
        gain = Gain(RATE, server.rps, server.rps * factor, "utilization law") if server.rps else None
        words = f"up to ×{factor:.1f} requests per second, if a core is free for it (utilization law)"
        return [Finding("instances", f"{why}{_idle(server)}", f"{count + 1} instances", words, gain)]
    change = f"{_SMALLER_MODEL}, or more cores"
    return [Finding("compute", f"{why}; its cores have no time left", change, "half the compute, twice the rate")]


def _has_core(server: ServerSide) -> bool:
    """Whether another instance would find what a busy one uses; by their number alone where that is unknown.

    One that computes for little of its time waits for something else than a core.
    """
    if server.cpus is None:
        return True
    if server.idle_cores is None or server.instance_cores is None:
        return server.batching.instances < server.cpus
    return server.instance_cores < _LITTLE or server.idle_cores >= min(1.0, server.instance_cores)


def _delayed(server: ServerSide, stages: Mapping[str, float], line: Line | None) -> list[Finding]:
    """Requests wait for batches to fill."""
    batching, queue, total = server.batching, stages.get("queue", 0.0), sum(stages.values())
    delay = batching.queue_delay_us
    if queue < max(1.0, _LARGE * total) or delay < queue / 2:
        return []
    preferred = f" (preferred: {', '.join(map(str, batching.preferred))})" if batching.preferred else ""
    why = (
        f"{queue:,.0f} of {total:,.0f} µs are spent in the queue: batches wait up to {delay:,} µs to fill{preferred}, "
        f"{_mean_batch(server)}"
    )
    saved, counted = min(delay, queue), sum(server.counted.stages().values())
    after, gain = counted - saved, None
    if after > 0:
        if server.callers:  # Without the delay, they wait for each other.
            line = line or Line(after, 0.0)
            freed = rate(server.callers, batching.instances, batching.max_batch_size, line)
            after = min(counted, 1e6 * server.callers / freed)
        gain = Gain(TIME, counted, after, "without the delay")
    change, otherwise = "max_queue_delay_microseconds: 0, or a shorter one", f"up to {saved:,.0f} µs less per request"
    return [_finding("queue delay", why, change, gain, otherwise)]


def _waiting(server: ServerSide, stages: Mapping[str, float], busy: float) -> list[Finding]:
    """The server has time left, yet requests wait, by chance."""
    queue, total = stages.get("queue", 0.0), sum(stages.values())
    if not total or queue < _LARGE * total:
        return []
    why = f"{queue:,.0f} of {total:,.0f} µs are spent in the queue, with instances busy for {busy:.0%} of the time"
    saved = queue * (1 - (busy / 2 / (1 - busy / 2)) / max(1e-9, busy / (1 - busy))) if busy < 1 else queue
    change = f"{server.batching.instances + 1} instances, or less bursty arrivals"
    return [Finding("queue", why, change, f"about {saved:,.0f} µs less per request (M/M/1 at half the load)")]


def _parts(stages: Mapping[str, float], steady: bool) -> list[Finding]:
    """The largest part of a request's time besides the queue."""
    findings, total, network = [], sum(stages.values()), stages.get("network_and_client", 0.0)
    compute = _compute_us(stages)
    if total and compute >= _LARGE * total:
        why = f"{compute:,.0f} of {total:,.0f} µs are computation"
        gain = f"half the compute, {compute / 2:,.0f} µs less per request"
        findings.append(Finding("compute", why, f"{_SMALLER_MODEL}, or a GPU", gain))
    # Where the server does not keep up, requests wait for it at the client as well: that is not the network.
    if total and network >= _LARGE * total and steady:
        why = f"{network:,.0f} of {total:,.0f} µs are neither queue nor compute, but network, protocol and copies"
        change = "larger --client-batch, the other protocol, fewer bytes per request, or a less loaded network"
        findings.append(Finding("network", why, change, f"up to {network:,.0f} µs less per request"))
    return findings


def _finding(bound: str, why: str, change: str, gain: Gain | None, otherwise: str) -> Finding:
    return Finding(bound, why, change, str(gain) if gain else otherwise, gain)


def _rates(server: ServerSide, line: Line | None, largest: int, larger: int, callers: float = 0.0) -> Gain | None:
    """The rate with larger batches, or with more callers; None where times at two batch sizes are not known."""
    if line is None or not server.rps:
        return None
    now = rate(server.callers, server.batching.instances, largest, line)
    then = rate(callers or server.callers, server.batching.instances, larger, line)
    return Gain(RATE, server.rps, server.rps * then / now, str(line))


def _mean_batch(server: ServerSide) -> str:
    return f"the mean batch is {server.counted.mean_batch}"


def _idle(server: ServerSide) -> str:
    return "" if server.idle_cores is None else f"; {server.idle_cores:.1f} of {server.cpus or '?'} cores are idle"


def _batch_gain(line: Line | None, largest: int) -> str:
    if line is None:
        return _UNKNOWN
    factor = line.us(1) * largest / line.us(largest)
    return f"inferences per second of an instance ×{factor:.1f} at batches of {largest}, by the times measured here"
