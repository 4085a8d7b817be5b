"""What the doctor says: text for the terminal, a page, and JSON for scripts."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from clients.command import text_table
from clients.statistics import STAGES
from loadtest.report.axes import Axis, number
from loadtest.report.charts import Dot, dots, stacked_bars
from loadtest.report.drawing import Chart
from loadtest.report.page import Page, Section, Table, publish
from tools.check.releases import NEWEST
from tools.check.upgrade import Difference, by_change
from tools.doctor.diagnosis import Diagnosis
from tools.doctor.observation import Seen
from tools.doctor.proof import Proof
from tools.doctor.surroundings import release

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "dim"}
_HOW = (
    "Predictions are arithmetic on the figures of this server, and hold for its callers of now: each names its law, or "
    "the times of executions that it rests on."
)


@dataclass(frozen=True)
class Report:
    """All that there is to say."""

    servers: Sequence[Seen]
    found: Sequence[Diagnosis]
    changes: Sequence[Diagnosis]  # that should pay most
    upgrade: Sequence[Difference]  # of the first server
    proofs: Sequence[Proof] = ()  # of the changes, where they were tried

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong beyond notes."""
        return not any(diagnosis.is_serious for diagnosis in self.found)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "healthy": self.is_healthy,
            "servers": [seen.document() for seen in self.servers],
            "findings": [diagnosis.document() for diagnosis in self.found],
            "changes": [diagnosis.document() for diagnosis in self.changes],
            "proofs": [proof.document() for proof in self.proofs],
            "upgrade": [asdict(difference) for difference in self.upgrade],
        }


def show(report: Report) -> None:
    """Print it on the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for seen in report.servers:
        console.print(Text("\n  ".join([_setting(seen), *seen.notes])))
    for section in _sections(report, is_page=False):
        severity = next((one for one in _STYLES if f" {one}: " in section.title), "")
        console.print(Text(f"\n{section.title}" if section.title else "", style=_STYLES.get(severity, "bold")))
        if section.table:
            console.print(Text(text_table(section.table)))
        for note in section.notes:
            console.print(Text(f"  {note}"))


def write(report: Report, folder: Path) -> Path:
    """Write doctor-HOST-PORT.json, .md and .html; returns the path of the last."""
    urls, first = [seen.url for seen in report.servers], report.servers[0]
    sections = [*_sections(report, is_page=True), Section("How", notes=[_HOW])]
    notes = [note for seen in report.servers for note in seen.notes]
    asked, verdict = "; ".join(map(_setting, report.servers)), "healthy" if report.is_healthy else "ill"
    title, versions = f"The doctor on {', '.join(urls)}", {"Triton": first.version}
    page = Page(title, asked, _outcome(report), sections, verdict, notes, versions)
    return publish(page, report.document(), folder, f"doctor-{first.url.replace(':', '-').replace('/', '-')}")


def _outcome(report: Report) -> str:
    ill = [one for one in report.found if one.is_serious]
    if not ill:
        return f"Nothing to mend; {len(report.found)} notes."
    place = ill[0].model or ill[0].url
    return f"{len(ill)} to mend, first {place}: {ill[0].finding.bound}. Try {ill[0].finding.change}."


def _setting(seen: Seen) -> str:
    served = f"{len(seen.served)} of {len(seen.models)} models served"
    return f"Triton {seen.version} at {seen.url}, watched for {seen.seconds:g} s, {served}"


def _sections(report: Report, is_page: bool) -> Iterator[Section]:
    """The findings, where the time goes (on a page, with a chart), what an upgrade brings, and at the end what pays."""
    for place, one in enumerate(report.found, 1):
        title = f"{place}. {one.severity}: {one.model or one.url}: {one.finding.bound}"
        change = [f"Try {one.finding.change}: {one.finding.gain}."] if one.is_serious else []
        yield Section(title, notes=[f"{one.finding.why}.", *change], is_half=True)
    for seen in report.servers:
        stages = {model.name: model.stages for model in seen.models if sum(model.stages.values())}
        about = f"microseconds of a request by stage, for each model of {seen.url}"
        chart = stacked_bars(about, stages, Axis("per request", "µs")) if stages and is_page else None
        yield Section(f"Where the time of a request goes at {seen.url} (µs)", chart, _times(seen))
    if report.upgrade:
        groups = by_change(report.upgrade).items()
        rows = [[what, since, kind, str(len(models))] for (since, kind, what), models in groups]
        title = f"What {NEWEST} would bring after {release(report.servers[0])}"
        yield Section(title, table=[["change", "since", "what", "models"], *rows])
    ill = sum(one.is_serious for one in report.found)
    title = f"{ill} to mend; what should pay most" if ill else "Nothing found: healthy"
    if is_page and not report.changes:
        return
    lines = [line for one in zip_longest(report.changes, report.proofs) for line in _change(*one)]
    yield Section(title, _gains(report.proofs) if is_page else None, notes=lines)


def _gains(proofs: Sequence[Proof]) -> Chart | None:
    """Predicted and measured gains beside each other, of the changes that were tried."""
    given = [
        Dot(f"{proof.model}: {proof.bound}", name, gain.factor)
        for proof in proofs
        for name, gain in (("predicted", proof.predicted), ("measured", proof.measured))
        if gain
    ]
    axis = Axis("times as good as before", zero=False, log=True)
    about = "how many times as good a figure becomes by each change, predicted and measured"
    return dots(about, given, axis, (1.0, "as before")) if given else None


def _change(change: Diagnosis, proof: Proof | None) -> Iterator[str]:
    """A change with its prediction, the command that shows it and, where it was tried, what was measured."""
    yield f"{change.model or change.url}: {change.finding.change}; predicted: {change.finding.gain}"
    if proof:
        yield f"measured: {proof.measured or proof.problem}"
    yield f"shown by: {change.proof}"


def _times(seen: Seen) -> Table:
    rows = [["model", "requests", "per second", "mean batch", "busy", *(stage.replace("_", " ") for stage in STAGES)]]
    for model in seen.models:
        if server := model.server:
            busy = server.busy_share()
            figures = [number(server.counted.requests), number(server.rps) if server.seconds else "since start"]
            figures += [number(server.counted.mean_batch), "-" if busy is None else f"{busy:.0%}"]
            rows.append([model.name, *figures, *(number(model.stages[stage]) for stage in STAGES)])
    return rows
