"""What bounds a run, in words, and how much a change should help.

The figures are the run's. The predictions come from two old results and name them: the utilization law, by which work
divides by the machines that share it, and M/M/1, by which the wait for one machine grows as busy / (1 - busy)
(Kleinrock, Queueing Systems I, 1975). They are for choosing the next experiment, not a substitute for it.
"""

from loadtest.analysis.result import Finding, RunResult
from loadtest.analysis.server_side import ServerSide

_FULL = 0.85  # of the instances' time, above which the queue dominates
_LARGE = 0.4  # of a request's time, for a part to be named
_SMALLER_MODEL = "a smaller or quantized variant"


def explain(result: RunResult) -> tuple[Finding, ...]:
    """Find what bounds a run, the most important first; there is always at least one finding."""
    if not result.is_valid:
        why, change = "; ".join(result.generator.problems), "more --processes, --protocol http"
        rate = f"one core sends about {result.generator.requests_per_core_s or 0:,} requests per second here"
        return (Finding("client", why, f"{change}, or the generator on a machine of its own", rate),)
    findings, busy = _errors(result), result.server.busy_share()
    if busy is not None:
        findings += [_saturation(result, busy)] if busy > _FULL or result.steady is False else _waiting(result, busy)
    findings += _parts(result)
    return tuple(findings) or (Finding("nothing", "no part stands out", "raise --rate", "unknown"),)


def _errors(result: RunResult) -> list[Finding]:
    """Failed requests come first: they cost the server little and make the others look fast."""
    kinds = result.figures.error_kinds
    if not kinds:
        return []
    kind, count = next(iter(kinds.items()))
    is_refusal = kind == "timeout" or "503" in kind or "UNAVAILABLE" in kind
    why = f"{sum(kinds.values()):,} of {result.figures.requests:,} requests failed, mostly: {kind} ({count:,})"
    change = "a lower rate, or a longer --timeout and queue" if is_refusal else "to fix the failure before measuring"
    return [Finding("errors", why, change, "latencies of the answered requests alone are not those of all")]


def _saturation(result: RunResult, busy: float) -> Finding:
    server, figures, batching = result.server, result.figures, result.server.batching
    count, mean_batch = batching.instances, server.counted.mean_batch
    why = (
        f"{count} instance(s) are busy for {busy:.0%} of the time, "
        f"{figures.rps:,.0f} of {figures.offered_rps:,.0f} requests per second answered"
    )
    if busy <= _FULL:
        why += "; the instances are not saturated, so what surrounds them (protocol, copies, other processes) is"
        change = "fewer other processes on its host, larger --client-batch, the other protocol"
        return Finding("cores", why, change, f"unknown; the server has {server.cpus or 'an unknown number of'} cores")
    if batching.max_batch_size > 1 and (mean_batch or 1) < min(2, batching.max_batch_size):
        waits = "to let requests wait for a batch: max_queue_delay_microseconds"
        change = waits if batching.dynamic_batching else "dynamic_batching"
        return Finding("batching", f"{why}; the mean batch is {mean_batch}", change, _batch_gain(server))
    if server.cpus is None or count < server.cpus:
        gain = f"up to ×{(count + 1) / count:.1f} requests per second, if a core is free for it (utilization law)"
        return Finding("instances", f"{why}; mean batch {mean_batch}", f"{count + 1} instances", gain)
    change = f"{_SMALLER_MODEL}, or more cores"
    return Finding("compute", f"{why}; as many instances as cores", change, "half the compute, twice the rate")


def _batch_gain(server: ServerSide) -> str:
    """The gain by the measured times of executions at several batch sizes."""
    times = {size: entry.ms for size, entry in server.batches.items()}
    if len(times) < 2:
        return "unknown: only one batch size was seen; try --client-batch 8"
    largest, smallest = max(times), min(times)
    ratio = (largest / times[largest]) / (smallest / times[smallest])
    return f"inferences per second of an instance ×{ratio:.1f} at batches of {largest}, by the times measured here"


def _waiting(result: RunResult, busy: float) -> list[Finding]:
    """The server has time left, yet requests wait: for a batch to fill, or by chance."""
    batching, queue, total = result.server.batching, result.stages_us.get("queue", 0.0), sum(result.stages_us.values())
    if not total or queue < _LARGE * total:
        return []
    delay = batching.queue_delay_us
    why = f"{queue:,.0f} of {total:,.0f} µs are spent in the queue, with instances busy for {busy:.0%} of the time"
    if delay >= queue / 2:
        gain = f"up to {min(delay, queue):,.0f} µs less per request, for smaller batches"
        waits = f"{why}; batches wait up to {delay:,} µs to fill"
        return [Finding("queue delay", waits, "a shorter queue delay", gain)]
    saved = queue * (1 - (busy / 2 / (1 - busy / 2)) / max(1e-9, busy / (1 - busy))) if busy < 1 else queue
    change = f"{batching.instances + 1} instances, or less bursty arrivals"
    return [Finding("queue", why, change, f"about {saved:,.0f} µs less per request (M/M/1 at half the load)")]


def _parts(result: RunResult) -> list[Finding]:
    """The largest part of a request's time besides the queue."""
    stages, findings = result.stages_us, []
    total, network = sum(stages.values()), stages.get("network_and_client", 0.0)
    compute = sum(value for name, value in stages.items() if name.startswith("compute"))
    if total and compute >= _LARGE * total:
        why = f"{compute:,.0f} of {total:,.0f} µs are computation"
        gain = f"half the compute, {compute / 2:,.0f} µs less per request"
        findings.append(Finding("compute", why, f"{_SMALLER_MODEL}, or a GPU", gain))
    # Where the server does not keep up, requests wait for it at the client as well: that is not the network.
    if total and network >= _LARGE * total and result.steady is not False:
        why = f"{network:,.0f} of {total:,.0f} µs are neither queue nor compute, but network, protocol and copies"
        change = "larger --client-batch, the other protocol, fewer bytes per request, or a less loaded network"
        findings.append(Finding("network", why, change, f"up to {network:,.0f} µs less per request"))
    return findings
