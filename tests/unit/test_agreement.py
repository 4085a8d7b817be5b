"""The arithmetic of a comparison of two load generators: ratios within rounds, medians over them, what is missing."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.generator import agreement
from tests.generator.agreement import OURS, THEIRS, Ratio, Row
from tests.generator.generators import WARM_UP, Figures, Load, options
from tests.generator.options import parse_options
from tests.generator.report import report
from tools.bench.perf_analyzer import children_cpu_s, total_seconds

ROUND = (Figures(100.0, 2.0, 4.0, 50.0, 200.0), Figures(90.0, 2.5, 8.0, 100.0, 180.0))
BOTTLENECK = replace(ROUND[0], rate=None, p50_ms=None, p99_ms=None)


def slower(times: float) -> agreement.Round:
    """The round on a machine that is slower by a factor, for both."""
    ours, theirs = (replace(own, rate=own.rate / times, p50_ms=own.p50_ms * times) for own in ROUND if own.rate)
    return ours, theirs


def row_of(*rounds: agreement.Round) -> Row:
    return agreement.combine("http", 8, 3.6, rounds)


def test_a_ratio_is_that_of_one_round_so_that_a_slow_round_does_not_change_it() -> None:
    assert row_of(slower(1), slower(3), slower(10)).p50 == Ratio(
        pytest.approx(0.8), pytest.approx(0.8), pytest.approx(0.8)
    )


def test_the_spread_is_the_least_and_the_largest_ratio_of_all_rounds() -> None:
    pairs = [(3.0, 2.0), (1.0, 2.0), (2.0, 2.0), (2.4, 2.0)]
    assert agreement.ratio(pairs) == Ratio(pytest.approx(1.1), 0.5, 1.5)


def test_rounds_that_lack_a_figure_are_left_out_of_its_ratio() -> None:
    assert agreement.ratio([(None, 2.0), (3.0, 2.0), (5.0, None)]) == Ratio(1.5, 1.5, 1.5)
    assert agreement.ratio([(None, 2.0)]) is None


def test_medians_are_of_each_figure_over_the_rounds_that_have_it() -> None:
    combined = row_of(ROUND, (replace(ROUND[0], rate=140.0, cpu_us=70.0), ROUND[1]), (BOTTLENECK, ROUND[1]))
    assert combined.ours == Figures(120.0, 2.0, 4.0, 50.0, 200.0)
    assert combined.theirs == ROUND[1]
    assert (combined.rounds, combined.invalid) == (3, 1)


def test_the_table_has_both_generators_one_below_the_other_and_ratios_with_their_spread() -> None:
    header, ours, theirs = agreement.table([row_of(ROUND, (replace(ROUND[0], p99_ms=12.0), ROUND[1]))])
    assert len(header) == len(ours) == len(theirs)
    assert ours[:5] == ["http", "8", OURS, "100", "2.00"] and theirs[:5] == ["http", "8", THEIRS, "90", "2.50"]
    assert ours[-2:] == ["0.80 (0.80 to 0.80)", "1.00 (0.50 to 1.50)"]


def test_a_generator_that_was_always_the_bottleneck_gives_no_figures_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row_of((BOTTLENECK, ROUND[1]), (BOTTLENECK, ROUND[1]))]
    report("small", rows, parse_options(None, ["--output", str(tmp_path), "--rounds", "2"]))
    for text in (capsys.readouterr().out, (tmp_path / "small.html").read_text()):
        assert f"http, 8 callers: in 2 of 2 rounds {OURS} was the bottleneck" in text
    assert agreement.table(rows)[1][3:] == ["-", "-", "-", "50", "200", "-", "-"]


def test_the_document_has_each_figure_by_protocol_and_concurrency() -> None:
    rows = [row_of(ROUND), replace(row_of((BOTTLENECK, ROUND[1])), protocol="grpc")]
    combined = json.loads(json.dumps(agreement.document(rows)))
    assert combined["http"]["8"]["p99"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert combined["http"]["8"]["ours"]["cpu_us"] == 50 and combined["http"]["8"]["seconds"] == 3.6
    assert combined["grpc"]["8"]["p50"] is None and combined["grpc"]["8"]["theirs"]["rate"] == 90


def test_our_window_without_its_warm_up_is_as_long_as_all_of_perf_analyzers() -> None:
    given = options(Load("any", "http", 4, 0.7, Path("inputs")), "localhost:1", "reports")
    values = dict(zip(given[1::2], given[2::2], strict=True))
    assert float(values["--duration"]) - float(values["--warm-up"]) == pytest.approx(total_seconds(0.7), abs=1e-3)
    assert float(values["--warm-up"]) == WARM_UP and values["--concurrency"] == "4"


def test_processor_time_of_a_child_counts_once_it_has_ended() -> None:
    before = children_cpu_s()
    program = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert 0.3 <= children_cpu_s() - before < 3
