"""What bounds a run, in words, and how much a change should help: `--explain`."""

from loadtest.analysis.bounds import bounds
from loadtest.analysis.result import Finding, RunResult


def explain(result: RunResult) -> tuple[Finding, ...]:
    """Find what bounds a run, the most important first; there is always at least one finding."""
    if not result.is_valid:
        why, change = "; ".join(result.generator.problems), "more --processes, --protocol http"
        speed = f"one core sends about {result.generator.requests_per_core_s or 0:,} requests per second here"
        return (Finding("client", why, f"{change}, or the generator on a machine of its own", speed),)
    figures = result.figures
    rates = f", {figures.rps:,.0f} of {figures.offered_rps:,.0f} requests per second answered"
    findings = _errors(result) + bounds(result.server, result.stages_us, result.steady is not False, rates)
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
