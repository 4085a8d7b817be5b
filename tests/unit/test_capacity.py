"""How many replicas a rate needs: the arithmetic, its ends, and results of earlier searches."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.capacity.__main__ import main
from tools.capacity.need import Need, One, Wish
from tools.capacity.page import page_of

MEASURED = {
    **{"model": "one", "protocol": "http", "slo": "p99<20ms", "peak_rps": 1000.0, "low_rps": 930.0, "high_rps": 1070.0},
    **{"narrow": True, "at_least": False, "sustained_rps": 980.0, "generator_bound": False, "trials": [], "bound": []},
}


@pytest.mark.parametrize(
    ("rate", "each", "spare", "utilization", "expected"),
    [
        (3000, 1000, 0, 1.0, 3),
        (3000, 1000, 1, 1.0, 4),
        (3001, 1000, 0, 1.0, 4),
        (2999, 1000, 0, 1.0, 3),
        (3000, 1000, 0, 0.75, 4),
        (3000, 1000, 0, 0.7, 5),
        (3000, 1000, 2, 0.7, 7),
        (1, 1000, 0, 1.0, 1),
        (1, 1000, 1, 1.0, 2),
        # 0.3 / 0.1 is more than three in binary.
        (0.3, 0.1, 0, 1.0, 3),
        # The spare one is beside those that carry the rate; it is not a share of them.
        (100_000, 1000, 1, 1.0, 101),
    ],
)
def test_the_replicas_carry_the_rate_while_the_spare_ones_are_away(
    rate: float, each: float, spare: int, utilization: float, expected: int
) -> None:
    assert Wish(rate, spare, utilization).replicas(each) == expected
    assert (expected - spare) * each * utilization >= rate * (1 - 1e-9) > (expected - spare - 1) * each * utilization


def test_what_to_run_rests_on_the_low_end_of_what_one_sustains() -> None:
    need = Need(One(1000, 800, 1250), Wish(4000, spare=1))
    assert (need.replicas, need.likely, need.least) == (6, 5, 5)
    header, *rows = need.table()
    assert header == ["replicas", "requests/s each", "of what one sustains", "with 1 away", "enough"]
    assert [row[0] + row[-1] for row in rows] == ["4no", "5perhaps", "6yes", "7yes"]
    assert rows[2][1:4] == ["666.7", "67%", "80%"]


def test_a_single_replica_leaves_nobody_when_it_is_away() -> None:
    _, first, *_ = Need(One(1000, 900, 1100), Wish(500)).table()
    assert first == ["1", "500.0", "50%", "nobody is left", "no"]


def test_a_wide_interval_gives_a_short_table_that_ends_with_what_suffices() -> None:
    rows = Need(One(100, 10, 1000), Wish(10_000, spare=0)).table()
    assert len(rows) < 10 and rows[-2][0] == "1000" and rows[-2][-1] == "yes" and rows[1][-1] == "perhaps"


def test_a_page_shows_what_the_replicas_sustain_and_which_are_enough() -> None:
    (drawn, table, _) = page_of(Need(One(1000, 800, 1250), Wish(4000, 2)), MEASURED).sections
    assert drawn.chart and list(drawn.chart.legend) == ["2 away", "all there"]
    points = [layer["data"]["values"] for layer in drawn.chart.spec["layer"] if layer["mark"].get("filled")]
    enough = [[(row["for"], row["_series"]) for row in rows] for rows in points]
    assert ("7 replicas", "2 away") in enough[0] and ("6 replicas", "all there") in enough[0]
    assert ("6 replicas", "2 away") in enough[1] and ("5 replicas", "all there") in enough[0]
    assert table.marked == {"7"}


Capacity = Callable[..., tuple[int, str, str]]


@pytest.fixture
def capacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Capacity:
    """Runs the command on what an earlier search printed; its exit code and output."""

    def run(text: str, *options: str, slo: str = "p99<20ms") -> tuple[int, str, str]:
        (file := tmp_path / "peak.txt").write_text(text)
        words = ["one", "--rate", "3000", "--slo", slo, "--measured", str(file), "--report", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", ["capacity", *words])
        code = main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_an_earlier_search_is_enough_as_a_document_or_as_all_that_was_printed(
    capacity: Capacity, tmp_path: Path
) -> None:
    code, printed, _ = capacity(f"one: 1,000 requests per second\n{json.dumps(MEASURED)}\n")
    document = json.loads(printed.splitlines()[-1])
    assert (code, document["replicas"], document["least_replicas"]) == (0, 5, 4)
    assert "need 5 replicas (4 to 5) while 1 of them may be away; the others are then at 75% of what" in printed
    page = (tmp_path / "one-capacity.md").read_text()
    assert "How many replicas of one carry 3,000 requests per second under p99<20ms while 1 may be away?" in page
    assert "| 4 | 750.0 | 75% | 100% | perhaps |" in page and "interval 930.0 to 1,070" in page
    assert json.loads((tmp_path / "one-capacity.json").read_text()) == document
    # What it printed itself serves too; the objective may be written in another way.
    code, printed, _ = capacity(printed, "--spare", "0", "--utilization", "0.9", slo=" p99 < 20 ms")
    assert (code, json.loads(printed.splitlines()[-1])["replicas"]) == (0, 4)


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"sustained_rps": None}, 1, "more replicas would not help"),
        ({"generator_bound": True}, 3, "--processes"),
        ({"model": "other"}, 2, "is about other, not about one"),
        ({"slo": "p99<50ms"}, 2, "measured under p99<50ms, not p99<20ms"),
        ({"low_rps": None}, 2, "is no result of"),
    ],
)
def test_what_an_earlier_search_does_not_say_is_not_computed(
    capacity: Capacity, changed: dict[str, Any], code: int, said: str
) -> None:
    ended, printed, errors = capacity(json.dumps(MEASURED | changed, indent=2))
    assert (ended, said in errors) == (code, True)
    assert code == 2 or json.loads(printed.splitlines()[-1])["replicas"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measured", "none.txt"], "none.txt does not exist; expected what `python -m loadtest.peak MODEL` printed"),
        ([], "model_repository/nosuch/config.pbtxt does not exist; models in "),
    ],
)
def test_what_cannot_be_measured_is_named(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["capacity", "nosuch", "--rate", "1", "--slo", "p99<20ms", *words])
    assert main() == 2 and said in capsys.readouterr().err
