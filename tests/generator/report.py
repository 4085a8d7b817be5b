"""The table and the page of one model."""

from clients.command import say, text_table
from loadtest.report.page import Page, Section, write
from tests.generator import agreement
from tests.generator.agreement import Row
from tests.generator.options import Options


def report(model: str, rows: list[Row], options: Options) -> None:
    """Print the table and write the page."""
    table = agreement.table(rows)
    windows = sorted({round(row.seconds, 1) for row in rows})
    lengths = " to ".join(f"{seconds:g}" for seconds in dict.fromkeys((windows[0], windows[-1])))
    setting = f"closed loop, one inference per request, {options.rounds} interleaved rounds of {lengths} s each"
    path = options.output / f"{model}.html"
    sections = [
        Section("Latencies, ours divided by theirs", agreement.chart(rows)),
        Section("What each saw", table=table, notes=(agreement.NOTES,)),
    ]
    warnings = agreement.warnings(rows)
    write(Page(f"{model}: two load generators", setting, agreement.outcome(rows), sections, notes=warnings), path)
    print("\n".join([f"\n{model}: {setting}", text_table(table), *warnings]))
    say(f"Page: {path}")
