"""The report of a run: text for the terminal, a page, and JSON for scripts."""

from pathlib import Path

from clients.command import print_json, say, text_table
from loadtest.analysis.audit import INVALID
from loadtest.analysis.result import RunResult, host
from loadtest.report import token_report
from loadtest.report.page import Page, Section, Table, interval, number, outcome_notes, publish
from loadtest.report.plots import by_percentile, over_time, stage_bars

_PERCENTILES_NOTE = (
    "Latency counts from the moment a request was due. Effective samples are the independent requests that the run is "
    "worth for a percentile, since latencies in a queue are autocorrelated; a question mark is an end of an interval "
    "that they are too few to determine."
)


def conclude(result: RunResult, folder: Path, explained: bool = False) -> int:
    """Print a run, and its document as the last line; write its report; returns the command's exit code."""
    print(text(result))
    if explained:
        print(*result.explanation, sep="\n")
    bulky = ("curve", "course", "histogram")  # They are in the report's file.
    print_json({key: value for key, value in result.document().items() if key not in bulky})
    say(f"Report: {write(result, folder)}")
    return int(not result.has_passed) if result.is_valid else INVALID


def write(result: RunResult, folder: Path) -> Path:
    """Write MODEL-PROTOCOL-(scenario, open or closed).json, .md and .html; returns the path of the last."""
    kind = result.scenario.name if result.scenario else "closed" if result.load.due is None else "open"
    return publish(page_of(result), result.document(), folder, f"{result.model}-{result.protocol}-{kind}")


def text(result: RunResult) -> str:
    """The run for a terminal; an invalid one without figures of the server."""
    figures = [text_table(_latency_rows(result)), *_rates(result)] if result.is_valid else []
    if result.is_valid and result.tokens:
        figures = [text_table(token_report.table(result)), *token_report.rates(result), _generator(result)]
    return "\n".join([_setting(result), *scenario_sentence(result), *figures, *_notes(result)])


def page_of(result: RunResult) -> Page:
    """The run as a page; an invalid one without figures of the server."""
    verdict = "invalid" if not result.is_valid else "passed" if result.has_passed else "failed"
    notes = [*scenario_sentence(result), *_notes(result)]
    return Page(f"Load test of {result.model}", _setting(result), _sections(result), verdict, notes)


def _sections(result: RunResult) -> list[Section]:
    if result.tokens:
        figures = token_report.sections(result, _generator(result)) if result.is_valid else []
        return [*figures, Section("Measured with", table=_circumstances(result))]
    batches = [
        [number(size), number(entry.executions), number(entry.ms)] for size, entry in result.server.batches.items()
    ]
    return [
        *(_figures(result) if result.is_valid else []),
        Section("What bounds it", notes=[str(finding) for finding in result.explanation]),
        Section("Batches that the server formed", table=[["batch size", "executions", "ms each"], *batches]),
        Section("Measured with", table=_circumstances(result)),
    ]


def _figures(result: RunResult) -> list[Section]:
    course = result.figures.course
    # Each point stands in the middle of its stretch; all stretches are of equal length.
    half = result.load.duration / len(course) / 2
    seconds = [stretch.from_s + half for stretch in course]
    rates = {"requests": [stretch.rps for stretch in course]}
    latencies = {name: [getattr(stretch, f"{name}_ms") for stretch in course] for name in ("p50", "p99", "max")}
    sections = [
        Section("Latency", table=_latency_rows(result), notes=[_PERCENTILES_NOTE, *_rates(result)]),
        Section("Requests due per second", over_time(seconds, rates)),
        Section("Latency in ms, by due time", over_time(seconds, latencies)),
        Section("Latency in ms, by percentile", by_percentile(result.figures.curve)),
    ]
    if result.stages_us:
        sections.append(Section("Where the time of a request goes", stage_bars({result.model: result.stages_us})))
    return sections


def _setting(result: RunResult) -> str:
    load = result.load
    sent = f"{load.arrivals} arrivals{f' at {load.rate:g}/s' if load.rate else ''}"
    if load.due is None:
        sent = f"{load.callers} callers, closed loop"
    prompts = f", {result.payload}" if result.tokens else ""
    return f"{result.model}, {result.protocol} {result.url}, {sent}, {load.duration:g} s{prompts}"


def _latency_rows(result: RunResult) -> Table:
    rows = [["latency", "ms", "95 % interval", "effective samples", "samples required"]]
    for name, percentile in result.figures.percentiles.items():
        ends = "-" if percentile.value is None else interval(percentile.low, percentile.high)
        samples = number(percentile.effective_samples), number(percentile.required_samples)
        rows.append([name, number(percentile.value), ends, *samples])
    return [*rows, ["max", number(result.figures.max_ms), "-", "-", "-"]]


def _rates(result: RunResult) -> list[str]:
    figures, server = result.figures, result.server
    limit = figures.goodput_limit_ms
    good = f", {number(figures.goodput_rps)} within {limit:g} ms" if limit else ""
    # An ensemble has no instances of its own.
    instances = server.batching.instances
    busy = f"{number(server.busy_instances)} of {instances} instance(s) busy, " if instances else ""
    stages = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in result.stages_us.items())
    return [
        f"requests per second: {number(figures.offered_rps)} offered, {number(figures.rps)} answered{good}",
        f"µs per request: {stages}",
        f"server: mean batch {number(server.counted.mean_batch)}, {busy}"
        f"{number(server.requests_per_core_s)} requests per core-second",
        _generator(result),
    ]


def _generator(result: RunResult) -> str:
    generator = result.generator
    return (
        f"generator: {generator.cpu_share:.0%} of a core, {number(generator.requests_per_core_s)} requests per "
        f"core-second, late by {number(generator.lag_ms['p99'])} ms (p99)"
    )


def _notes(result: RunResult) -> list[str]:
    slo = [objective.text for objective in result.objectives]
    notes = [f"INVALID, the generator was the bottleneck: {problem}" for problem in result.generator.problems]
    notes += outcome_notes(slo, result.slo_missed, result.has_passed, result.figures.error_kinds)
    notes += result.server.rejects.sentences() if result.server.rejects else []
    if result.steady is False:
        notes.append("Not steady: the server does not keep up with this load, so latencies grow with the test's length")
    if held := result.generator.held:
        notes.append(f"{held:,} requests found all connections waiting for the server, and waited as well")
    if result.payload == "synthetic":
        notes.append("Random inputs, not samples")
    if result.tokens and not result.tokens.is_counted:
        notes.append("The server counted an answer's tokens only at its end: they are spread evenly over its messages")
    return notes


def _circumstances(result: RunResult) -> Table:
    options = {
        "seed": result.seed,
        "client batch": result.client_batch,
        "payload": result.payload,
        "warm-up s": round(result.warm_up_s, 3),
        "steady": result.steady,
    }
    nested = ("batches", "members", "rejects")
    server = {name: value for name, value in result.server.document().items() if name not in nested}
    rows = [["what", "value"], *([name, str(value)] for name, value in options.items())]
    for group, values in {"generator": result.generator.document(), "server": server, "host": host()}.items():
        rows += [[f"{group}: {name.replace('_', ' ')}", str(value)] for name, value in values.items()]
    return rows


def scenario_sentence(result: RunResult) -> list[str]:
    """The scenario's figure, or why there is none; empty for a run without a scenario."""
    scenario = result.scenario
    if scenario is None:
        return []
    if scenario.value is None:
        reason = "too few answers, lengthen --duration"
        if not result.is_valid:
            reason = "the run is not valid"
        elif result.figures.requests == result.figures.errors:
            reason = "no request was answered"
        value = f"not measured: {reason}"
    elif isinstance(scenario.value, bool):
        value = "yes" if scenario.value else "no"
    else:
        value = f"{number(scenario.value)} {scenario.unit}"
    return [f"Scenario {scenario.name}: {scenario.figure}: {value}"]
