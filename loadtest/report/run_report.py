"""The report of a run: text for the terminal, a page, and JSON for scripts."""

import re
from pathlib import Path

from clients.command import print_json, say, text_table
from loadtest.analysis.audit import INVALID
from loadtest.analysis.machine import host
from loadtest.analysis.result import RunResult
from loadtest.report import token_report
from loadtest.report.axes import Axis, interval, number
from loadtest.report.charts import MS, by_percentile, over_time, stacked_bars
from loadtest.report.drawing import Limit
from loadtest.report.page import Page, Section, Table, half, outcome_notes, publish

_BATCHES = ("batch size", "executions", "ms each")
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
    bulky = ("curve", "course")  # They are in the report's file.
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
    slo = f"; asked for {', '.join(objective.text for objective in result.objectives)}" if result.objectives else ""
    notes, versions = [*scenario_sentence(result), *_notes(result)], {"Triton": result.server.version}
    sections, found = _sections(result), outcome(result)
    return Page(f"Load test of {result.model}", f"{_setting(result)}{slo}", found, sections, verdict, notes, versions)


def outcome(result: RunResult) -> str:
    """What came out, in one line."""
    figures = result.figures
    if not result.is_valid:
        return "The generator was the bottleneck, so this run says nothing about the server."
    errors = f"{figures.errors:,} of {figures.requests:,} requests failed"
    if result.tokens:
        known = token_report.highest(result)
        first = f"{number(result.tokens.tokens_per_s)} tokens per second"
    else:
        known = [(name, figures.percentiles[name]) for name in ("p50", "p99")]
        first = f"{number(figures.rps)} requests per second answered"
    latencies = [
        f"{name} {MS.text(each.value)} ({interval(each.low, each.high)})" for name, each in known if each.value
    ]
    return "; ".join([first, *latencies, errors])


def _sections(result: RunResult) -> list[Section]:
    if result.tokens:
        figures = token_report.sections(result, _generator(result)) if result.is_valid else []
        return [*figures, Section("Measured with", facts=_circumstances(result))]
    batches = [
        [number(size), number(entry.executions), number(entry.ms)] for size, entry in result.server.batches.items()
    ]
    return [
        *(_figures(result) if result.is_valid else []),
        Section("What bounds it", notes=[str(finding) for finding in result.explanation], is_half=bool(batches)),
        *([Section("Batches that the server formed", table=[_BATCHES, *batches], is_half=True)] if batches else []),
        Section("Measured with", facts=_circumstances(result)),
    ]


def _figures(result: RunResult) -> list[Section]:
    # Each point stands in the middle of its stretch; all stretches are of equal length.
    course, middle = result.figures.course, result.load.duration / len(result.figures.course) / 2
    rates = {"requests": [(one.from_s + middle, one.rps) for one in course]}
    latencies = {
        name: [(one.from_s + middle, getattr(one, f"{name}_ms")) for one in course] for name in ("p50", "p99", "max")
    }
    curves, known = {"latency": result.figures.curve}, {"latency": result.figures.percentiles}
    sections = [
        Section("Latency", table=_latency_rows(result), notes=[_PERCENTILES_NOTE], is_half=True),
        half("Latency by percentile", by_percentile("percentiles with 95 % intervals", curves, known)),
        half("Latency by due time", over_time("p50, p99 and maximum by due time", latencies, MS, limit(result))),
        half("Requests due", over_time("requests due per second", rates, Axis("", "requests per second"))),
    ]
    if result.stages_us:
        stages = {result.model: result.stages_us}
        bars = stacked_bars("microseconds of a request by stage", stages, Axis("per request", "µs"))
        sections.append(Section("Where the time of a request goes", bars, notes=_rates(result)))
    return sections


def limit(result: RunResult) -> Limit | None:
    """The objective that latencies are drawn beside: that of the highest percentile."""
    value = result.figures.goodput_limit_ms
    return (value, f"objective, {value:g} ms") if value else None


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


def _circumstances(result: RunResult) -> dict[str, str]:
    options = {
        "seed": result.seed,
        "client batch": result.client_batch,
        "payload": result.payload,
        "warm-up s": round(result.warm_up_s, 3),
        "steady": result.steady,
    }
    nested = ("batches", "members", "rejects")
    server = {name: value for name, value in result.server.document().items() if name not in nested}
    groups = {"": options, "generator ": result.generator.document(), "server ": server, "host ": host()}
    facts = {f"{group}{_words(name)}": value for group, own in groups.items() for name, value in own.items()}
    return {name: _fact(value) for name, value in facts.items() if value not in (None, "", ())}


def _words(name: str) -> str:
    return re.sub(r"\bus$", "µs", name.replace("_", " ")).replace("gb", "GB")


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)


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
