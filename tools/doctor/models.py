"""Rules about one model: does it answer, does it batch, what does it wait for."""

from collections.abc import Iterator

from clients.failures import without_trace
from loadtest.analysis.bounds import bounds
from loadtest.analysis.predict import RATE, Gain
from loadtest.analysis.result import Finding
from tools.check.finding import Severity
from tools.doctor.diagnosis import Diagnosis
from tools.doctor.observation import READY, ModelSeen, Seen

# What `--explain` finds and the doctor calls ill; the rest of it are notes.
_ILL = (
    *("callers in turn", "batching", "preferred sizes", "instances", "too many instances"),
    *("queue delay", "response cache"),
)
_FAILING = 0.01  # of the requests
_FULL_GPU = 0.9
# What the reasons of failed loads have in common, and what to do.
_REMEDIES = {
    "No module named": "the package in the environment of the Python backend (EXECUTION_ENV_PATH, or the image)",
    "no GPUs are available": "a GPU for the container (--gpus all), or KIND_CPU in instance_group",
    "unable to find": "the missing file: `python -m tools.check REPOSITORY` names it",
    "no version is available": "a version folder",
    "shared memory": "more shared memory (--shm-size)",
    "out of memory": "fewer instances or models on this GPU",
}


def rules(model: ModelSeen, seen: Seen) -> Iterator[Diagnosis]:
    """Yield what is wrong with a model."""
    found = [*_unready(model), *_failing(model), *_growing(model), *_unbatched(model, seen), *_bounds(model, seen)]
    callers = model.callers or (round(model.server.callers) if model.server else 0)
    command = f"python -m clients.status {model.name} --url {seen.url}"
    if model.config:
        load = f"--concurrency {max(1, callers)} --duration 5s --explain"
        command = f"python -m loadtest.run {model.name} --url {seen.url} {load}"
    for severity, finding in found:
        yield Diagnosis(severity, seen.url, model.name, finding, command, max(1, callers))


def _unready(model: ModelSeen) -> Iterator[tuple[Severity, Finding]]:
    is_broken = model.state not in ("", READY) and model.reason != "unloaded"
    if is_broken and (model.reason or model.state != "UNAVAILABLE"):
        remedies = (text for words, text in _REMEDIES.items() if words in model.reason)
        reason = without_trace(model.reason) or "it says no reason"
        change = next(remedies, "to mend what the reason names, then load it again")
        yield "error", Finding("unready", f"{model.state}: {reason}", change, "the model answers")


def _failing(model: ModelSeen) -> Iterator[tuple[Severity, Finding]]:
    counted = model.server.counted if model.server else None
    if counted and counted.failures > max(5, _FAILING * (counted.requests + counted.failures)):
        share = counted.failures / (counted.requests + counted.failures)
        why = f"{counted.failures:,} requests failed, {share:.0%} of all"
        yield "error", Finding("failures", why, "to read the server's log: what fails is no load", "answers")


def _growing(model: ModelSeen) -> Iterator[tuple[Severity, Finding]]:
    """More arrive than are answered: by the queue's length, or else by the time that requests wait."""
    server, waiting, queue = model.server, model.waiting, model.queue_us
    if server is None or not queue:
        return
    busy, growth = server.busy_share() or 0.0, waiting[-1] - waiting[0] if waiting else 0
    longer = queue[-1] > 1.5 * queue[0] and queue[-1] > sum(model.stages.values()) / 2
    is_steadily = list(waiting) == sorted(waiting) and growth > max(10, 0.1 * server.counted.requests)
    if is_steadily if waiting else longer and busy > _FULL_GPU:
        arriving = server.rps + growth / server.seconds
        why = f"requests wait {queue[0]:,.0f}, then {queue[-1]:,.0f} µs"
        if waiting:
            why = f"{waiting[0]:,}, then {waiting[-1]:,} requests wait: {arriving:,.0f} arrive per second, and {why}"
        change = "more capacity (what follows here, or replicas), or fewer requests: refuse them in front of the server"
        gain = Gain(RATE, server.rps, arriving, "what arrives") if waiting else None
        yield "error", Finding("queue growing", f"{why}; {server.rps:,.0f} are answered", change, str(gain), gain)


def _unbatched(model: ModelSeen, seen: Seen) -> Iterator[tuple[Severity, Finding]]:
    """A model that takes one request at a time while others wait, often as the step of an ensemble."""
    server, stages = model.server, model.stages
    busy = server.busy_share() if server else None
    if server is None or busy is None or server.batching.max_batch_size > 1 or busy < 0.5:
        return
    if stages["queue"] < 0.3 * sum(stages.values()):
        return
    above = [other.name for other in seen.models if model.name in other.members]
    step = f", a step of {', '.join(above)}" if above else ""
    why = (
        f"max_batch_size {server.batching.max_batch_size}{step}: each instance runs one request at a time, busy for "
        f"{busy:.0%} of the time, while requests wait {stages['queue']:,.0f} of {sum(stages.values()):,.0f} µs"
    )
    size = max(1.0, server.callers / (server.batching.instances + 1))
    gain = Gain(RATE, server.rps, server.rps * size, f"at most: if {size:.1f} at once take as long as one")
    change = "a batch dimension, max_batch_size and dynamic_batching" + f", also in {', '.join(above)}" * bool(above)
    yield "warning", Finding("step without batches" if above else "without batches", why, change, str(gain), gain)


def _bounds(model: ModelSeen, seen: Seen) -> Iterator[tuple[Severity, Finding]]:
    if model.server is None:
        return
    has_full_gpu = model.server.batching.on_gpu and (seen.gpu_share or 0.0) >= _FULL_GPU
    for finding in bounds(model.server, model.stages, line=model.line, is_alone=model.callers > 0):
        is_instances = finding.bound == "instances"
        # Callers of ours who wait keep any model busy: that is no lack. How much is computation stands in a table.
        is_ill = finding.bound in _ILL and not (is_instances and model.callers)
        if finding.bound != "compute" and not (is_instances and has_full_gpu):
            yield "warning" if is_ill else "info", finding
