"""What bounds a direct run, in words, and what should help by how much.

The figures are those of the run; the predictions come from two old results, and say so: work divides by the machines
that share it (the utilization law), and the wait for a single machine grows as busy / (1 - busy) (M/M/1; Kleinrock,
Queueing Systems I, 1975). They are for choosing the next experiment, not for believing without it.
"""

from dataclasses import asdict, dataclass
from typing import Any

Document = dict[str, Any]

FULL = 0.85  # of the instances' time: from here on the queue decides
LARGE = 0.4  # of a request's time: a part to speak of first


@dataclass(frozen=True)
class Finding:
    """One bound, why it is thought to be one, and what should help.

    Attributes:
        bound: client, errors, cores, batching, instances, queue delay, queue, compute, network or nothing.
        why: the figures behind it.
        change: what to try.
        gain: what it should bring at the most.
    """

    bound: str
    why: str
    change: str
    gain: str


def explain(document: Document) -> list[Finding]:
    """What bounds a run, the most important first; always at least one finding."""
    if not document["valid"]:
        return [generator(document)]
    server = document["server"]
    found = [errors(document)] if document["error_kinds"] else []
    if server.get("busy_instances") is not None and server["instances"]:
        found += saturation(document) if busy(server) > FULL or document["steady"] is False else waiting(document)
    return found + parts(document) or [Finding("nothing", "no part stands out", "raise --rate", "unknown")]


def busy(server: Document) -> float:
    """The share of their time for which the instances were occupied."""
    return float(server["busy_instances"] / server["instances"])


def generator(document: Document) -> Finding:
    """The run says nothing of the server."""
    return Finding(
        "client",
        "; ".join(document["invalid_because"]),
        "more --processes, --protocol http, or the generator on a machine of its own",
        f"one core sends about {document['generator']['requests_per_core_s']:,} requests per second here",
    )


def errors(document: Document) -> Finding:
    """Failed requests come first: they cost the server little and make the others look quick."""
    kinds = document["error_kinds"]
    (kind, count), *_ = kinds.items()
    refused = kind == "timeout" or "503" in kind or "UNAVAILABLE" in kind
    return Finding(
        "errors",
        f"{sum(kinds.values()):,} of {document['requests']:,} requests failed, most of them so: {kind} ({count:,})",
        "a lower rate, or a longer --timeout and queue" if refused else "mend the failure before measuring",
        "latencies of the answered requests alone are not those of all",
    )


def saturation(document: Document) -> list[Finding]:
    """The server has no time left: larger batches, more instances, or more cores."""
    server = document["server"]
    why = (
        f"{busy(server):.0%} of the time of {server['instances']} instance(s) is taken, "
        f"{document['rps']:,.0f} of {document['offered_rps']:,.0f} requests per second answered"
    )
    if busy(server) <= FULL:
        why += "; the instances have time left, so what surrounds them (protocol, copies, other processes) has not"
        change = "fewer other processes on its host, larger --client-batch, the other protocol"
        return [Finding("cores", why, change, f"unknown; {server['cpus'] or 'an unknown number of'} cores are there")]
    return [batching(server, why)] if room_for_batches(server) else [instances(document, why)]


def room_for_batches(server: Document) -> bool:
    """Whether requests were executed nearly one by one though the model takes batches."""
    return bool(server["max_batch_size"] > 1 and (server["mean_batch"] or 1) < min(2, server["max_batch_size"]))


def batching(server: Document, why: str) -> Finding:
    """Batches are not formed though requests queue."""
    change = (
        "wait a little for them: max_queue_delay_microseconds" if server["dynamic_batching"] else "dynamic_batching"
    )
    return Finding("batching", f"{why}; the mean batch is {server['mean_batch']}", change, batch_gain(server))


def batch_gain(server: Document) -> str:
    """What batches bring, from the time that executions of several sizes took; unknown where there was one size."""
    times = {int(size): one["ms"] for size, one in server["batches"].items()}
    if len(times) < 2:
        return "unknown: only one batch size was seen; try --client-batch 8"
    largest, single = max(times), min(times)
    ratio = (largest / times[largest]) / (single / times[single])
    return f"inferences per second of an instance ×{ratio:.1f} at batches of {largest}, as far as they were seen"


def instances(document: Document, why: str) -> Finding:
    """Batches are formed, and still there is no time left."""
    server = document["server"]
    count, cpus = server["instances"], server["cpus"]
    if cpus is None or count < cpus:
        gain = f"up to ×{(count + 1) / count:.1f} requests per second, if a core is free for it (utilization law)"
        return Finding("instances", f"{why}; mean batch {server['mean_batch']}", f"{count + 1} instances", gain)
    change = "a smaller or quantized variant, or more cores"
    return Finding("compute", f"{why}; as many instances as cores", change, "half the compute, twice the rate")


def waiting(document: Document) -> list[Finding]:
    """The server has time left, and requests wait all the same: for a batch to fill, or by chance."""
    server, stages = document["server"], document["stages_us"]
    queue, total = stages.get("queue", 0.0), sum(stages.values())
    if not total or queue < LARGE * total:
        return []
    delay, share = server["queue_delay_us"], busy(server)
    why = f"{queue:,.0f} of {total:,.0f} µs are spent in the queue, with instances busy for {share:.0%}"
    if delay >= queue / 2:
        gain = f"up to {min(delay, queue):,.0f} µs less per request, for smaller batches"
        return [
            Finding("queue delay", f"{why}; batches wait up to {delay:,} µs to fill", "a shorter queue delay", gain)
        ]
    saved = queue * (1 - (share / 2 / (1 - share / 2)) / max(1e-9, share / (1 - share))) if share < 1 else queue
    change = f"{server['instances'] + 1} instances, or arrivals that come less in bursts"
    return [Finding("queue", why, change, f"about {saved:,.0f} µs less per request (M/M/1 at half the load)")]


def parts(document: Document) -> list[Finding]:
    """The largest part of a request's time besides the queue, where it is large."""
    stages = document["stages_us"]
    total = sum(stages.values())
    compute = sum(value for name, value in stages.items() if name.startswith("compute"))
    network = stages.get("network_and_client", 0.0)
    found = []
    if total and compute >= LARGE * total:
        why = f"{compute:,.0f} of {total:,.0f} µs are computed"
        gain = f"half the compute, {compute / 2:,.0f} µs less per request"
        found.append(Finding("compute", why, "a smaller or quantized variant, or a GPU", gain))
    # Where the server does not keep up, requests wait for it here as well, and nothing of that is the way.
    if total and network >= LARGE * total and document["steady"] is not False:
        why = (
            f"{network:,.0f} of {total:,.0f} µs are neither queue nor compute: the way there and back, protocol, copies"
        )
        change = "larger --client-batch, the other protocol, fewer bytes per request, or connections that are not full"
        found.append(Finding("network", why, change, f"up to {network:,.0f} µs less per request"))
    return found


def documents(findings: list[Finding]) -> list[Document]:
    """As JSON."""
    return [asdict(one) for one in findings]


def words(findings: list[Document]) -> list[str]:
    """As sentences."""
    return [f"{one['bound']}: {one['why']}. Try {one['change']}: {one['gain']}." for one in findings]
