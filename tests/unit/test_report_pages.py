"""Pages of reports in a real browser: what they draw, what can be done with them, and that they need nobody else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.report import comparison
from loadtest.report.page import Page, Section, publish, write
from loadtest.report.run_report import page_of
from tests.browser import NEEDS_CHROMIUM, chromium, look
from tests.unit.test_run_report import document, run

pytestmark = NEEDS_CHROMIUM
ROWS = [["model", "rate", "p99 ms"], ["b", "1,200", "0.9"], ["a", "90", "-"], ["c", "300", "1.25 (1 to 2)"]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


class Opened:
    """A page, and what went on in it."""

    def __init__(self, browser: Any, path: Path, width: int = 1200) -> None:
        self.asked, self.said = list[str](), list[str]()
        self.page = browser.new_page()
        look(self.page, width, "light")
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(path.as_uri())

    def count(self, marks: str) -> int:
        return int(self.page.locator(marks).count())

    def color(self) -> str:
        return str(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_a_report_draws_its_charts_without_another_file_and_without_a_complaint(browser: Any, tmp_path: Path) -> None:
    path = write(page_of(run()), tmp_path / "run.html")
    opened = Opened(browser, path)
    assert opened.count("figure svg") == 4 and opened.count("figure svg .mark-line path") == 5
    assert opened.count("figure svg .mark-rule line") > 5 and opened.count("figure svg .mark-rect path") == 6
    opened.page.locator("figure svg").nth(2).hover()
    assert "requests per second" in opened.page.locator(".tip").inner_text()
    opened.page.locator("figure").first.locator(".mark-symbol path").nth(3).hover()
    names = opened.page.locator(".tip dt").all_inner_texts()
    assert names == ["for", "latency", "interval"] and " ms" in opened.page.locator(".tip dd").last.inner_text()
    opened.page.get_by_role("button", name="max").click()
    opened.page.wait_for_function("document.querySelectorAll('figure svg .mark-line path').length === 4")
    assert opened.page.pdf()[:4] == b"%PDF"
    assert (opened.asked, opened.said) == ([path.as_uri()], [])


def test_a_comparison_lays_one_run_over_the_other(browser: Any, tmp_path: Path) -> None:
    before, after = document(seed=0), document(seed=1, slower=1.3)
    page = comparison.page_of(("main", "branch"), (before, after), comparison.changes(before, after, 0.05))
    opened = Opened(browser, publish(page, {}, tmp_path, "diff"))
    assert opened.page.locator(".outcome").inner_text().startswith("Worse: p50 (")
    assert opened.count("figure svg .mark-line path") == 4 and opened.count("tr.marked") >= 2
    assert opened.said == []


def test_a_table_is_sorted_with_a_pointer_and_with_the_keyboard(browser: Any, tmp_path: Path) -> None:
    path = write(Page("Sorted", "asked", "found", [Section("Table", table=ROWS)]), tmp_path / "table.html")
    page = Opened(browser, path).page
    first = page.locator("tbody td:first-child")
    page.get_by_role("button", name="rate").click()
    assert first.all_inner_texts() == ["a", "c", "b"]
    page.get_by_role("button", name="rate").press("Enter")
    assert first.all_inner_texts() == ["b", "c", "a"]
    page.get_by_role("button", name="p99 ms").press("Enter")
    assert first.all_inner_texts() == ["a", "b", "c"]
    assert page.locator("th[aria-sort]").evaluate_all("all => all.map((th) => th.ariaSort)") == ["ascending"]


def test_a_page_fits_a_phone_and_is_dark_where_that_is_preferred_but_not_on_paper(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, write(page_of(run()), tmp_path / "run.html"), width=360)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    light = opened.color()
    opened.page.emulate_media(color_scheme="dark")
    assert opened.color() != light
    opened.page.emulate_media(color_scheme="dark", media="print")
    assert opened.color() == light


def test_the_index_lists_every_report_with_what_it_says_the_newest_first(
    browser: Any, tmp_path: Path, command: Any
) -> None:
    for name in ("older", "newer"):
        write(Page(f"{name} <b>", f"asked of {name}", "found & kept", [], "passed"), tmp_path / "of" / f"{name}.html")
    older = tmp_path / "of" / "older.html"
    older.write_text(older.read_text().replace("&#34;made&#34;:&#34;2", "&#34;made&#34;:&#34;1"))
    (tmp_path / "another.html").write_text("<!doctype html><title>not ours</title>")
    result = command("loadtest.reports", tmp_path)
    listed = json.loads(result.stdout.splitlines()[-1])
    assert [entry["title"] for entry in listed["reports"]] == ["newer <b>", "older <b>"], result.stderr
    assert listed["reports"][0]["found"] == "found & kept" and listed["reports"][0]["path"] == "of/newer.html"
    assert result.stdout.splitlines()[0] == Path(listed["index"]).as_uri()
    page = Opened(browser, Path(listed["index"])).page
    page.get_by_role("link", name="older <b>").click()
    assert page.title() == "older <b>"


def test_a_folder_that_does_not_exist_has_no_reports(tmp_path: Path, command: Any) -> None:
    result = command("loadtest.reports", tmp_path / "none")
    assert result.returncode == 2 and "expected a folder of reports" in result.stderr
