"""One way to be a command: exit codes and messages, signals in a process of its own, tables, progress, options."""

import argparse
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clients import command
from clients.command import command_parser, duration, positive, positive_float, seed, text_table
from clients.errors import ClientError, ToolError
from clients.interruption import interruptible
from tools.repository import ROOT

# A child of a background job would inherit that Ctrl-C is ignored.
TAKES_CTRL_C = "signal.signal(signal.SIGINT, signal.default_int_handler)"


class DisprovedError(ToolError):
    exit_code = 1


def run_raising(error: BaseException) -> int:
    @command.command(interrupted="run it again")
    def main() -> int:
        raise error

    return main()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ToolError("digits has no version; export one"), 2, "error: digits has no version; export one\n"),
        (ClientError("no server"), 2, "error: no server\n"),
        (DisprovedError("accuracy is 10 %"), 1, "error: accuracy is 10 %\n"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), 2, "error: a.png: No such file or directory\n"),
        (OSError("disk full"), 2, "error: disk full\n"),
        (
            OSError(24, "Too many open files"),
            2,
            "error: Too many open files; raise the limit of open files (ulimit -n)\n",
        ),
        (MemoryError(), 2, "error: out of memory; close other programs, or raise the limit (ulimit -v)\n"),
        (BrokenPipeError(32, "Broken pipe"), 2, "error: Broken pipe\n"),  # Of another pipe than stdout.
        (KeyboardInterrupt(), 130, "interrupted; run it again\n"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(error) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_without_an_error_the_exit_code_is_main_s_own(code: int) -> None:
    assert command.command()(lambda: code)() == code


def test_a_bug_is_shown_with_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_raising(ZeroDivisionError())


def test_a_command_keeps_its_name_and_docstring() -> None:
    @command.command()
    def main() -> int:
        """Do it."""
        return 0

    assert (main.__name__, main.__doc__) == ("main", "Do it.")


def child(body: str, before: str = TAKES_CTRL_C, stdin: int | None = None) -> "subprocess.Popen[str]":
    """A process whose main is the body; it has begun when this returns."""
    lines = [
        "import asyncio, signal, sys, time",
        "from clients.command import command, say",
        before,
        "@command(interrupted='go on later')",
        "def main():",
        *(f"    {line}" for line in body.splitlines()),
        "    return 0",
        "sys.exit(main())",
    ]
    line = [sys.executable, "-c", "\n".join(lines)]
    pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(line, cwd=ROOT, **pipes)
    assert process.stderr and process.stderr.readline() == "begun\n"
    return process


WAIT = "try:\n    say('begun'); time.sleep(30)\nfinally:\n    say('cleaned up')"
WAIT_IN_A_LOOP = """\
async def wait():
    try:
        say('begun'); await asyncio.sleep(30)
    finally:
        await asyncio.sleep(0.01)
        say('cleaned up')
asyncio.run(wait())"""
CLEAN_UP_SLOWLY = "try:\n    say('begun'); time.sleep(30)\nfinally:\n    say('slow'); time.sleep(30)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("body", [WAIT, WAIT_IN_A_LOOP], ids=["plain", "event loop"])
def test_a_signal_unwinds_the_command_and_says_how_to_continue(body: str, number: signal.Signals) -> None:
    process = child(body)
    process.send_signal(number)
    assert process.communicate(timeout=20) == ("", "cleaned up\ninterrupted; go on later\n")
    assert process.returncode == 130


def test_sigterm_stops_what_a_shell_started_to_ignore_ctrl_c() -> None:
    process = child(WAIT, before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1] == "cleaned up\ninterrupted; go on later\n"
    assert process.returncode == 130


def test_a_second_signal_stops_a_slow_cleanup() -> None:
    process = child(CLEAN_UP_SLOWLY)
    process.send_signal(signal.SIGINT)
    assert process.stderr and process.stderr.readline() == "slow\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1] == "interrupted; go on later\n"
    assert process.returncode == 130


def test_a_reader_that_leaves_early_ends_the_command_as_a_shell_expects_it() -> None:
    with child("say('begun'); sys.stdin.read(); print('too late')", stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_signals_are_handled_as_before_once_the_command_has_ended() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_command_runs_in_a_thread_too() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(command.command()(lambda: 0)()))
    thread.start()
    thread.join()
    assert codes == [0]


def test_help_is_the_docstring_with_its_examples_as_they_stand() -> None:
    doc = """Measure a model: `python -m x`.

    It sends requests until the {} confidence interval is narrow enough, and {} stops then.

        python -m x MODEL    # one
        python -m x          # all
    """.replace("\n    ", "\n").format("95 %", "long " * 20)
    text = command_parser("x", doc, "Further options go to --some-other-program.").format_help()
    above, _, below = text.partition("options:")
    assert above.startswith("usage: python -m x [-h]") and "Measure a model: `python -m x`." in above
    assert "\n    python -m x MODEL    # one\n    python -m x          # all\n" in below
    assert "It sends requests until the 95 % confidence interval" in below
    assert below.endswith("\n\nFurther options go to --some-other-program.\n")
    assert all(len(line) <= 80 for line in below.splitlines())


def test_help_names_the_default_of_an_option_unless_it_says_something_else() -> None:
    parser = command_parser("x", "Does something.")
    parser.add_argument("--size", type=float, default=5.0, help="in metres")
    parser.add_argument("--kinds", nargs="+", default=("1", "50%"), help="of steps")
    parser.add_argument("--place", default=0, help="of it (default: any)")
    parser.add_argument("--dry", action="store_true", help="do nothing")
    text = parser.format_help()
    assert "in metres (default: 5)\n" in text and "of steps (default: 1 50%)\n" in text
    assert "of it (default: any)\n" in text and "do nothing\n" in text


def test_a_table_has_its_first_column_to_the_left_and_numbers_to_the_right() -> None:
    rows = [["model", "requests/s", "p99 [ms]"], ["mnist", "12,345", "1.5"], ["cifar10_cnn", "7", "-"]]
    assert text_table(rows).splitlines() == [
        "model        requests/s  p99 [ms]",
        "mnist            12,345       1.5",
        "cifar10_cnn           7         -",
    ]


def test_a_table_is_never_wrapped_or_read_as_markup() -> None:
    wide = "x" * 500
    assert text_table([["name", "value"], [wide, "[bold]1[/bold] :smile:"]]).splitlines()[1] == (
        f"{wide}  [bold]1[/bold] :smile:"
    )
    assert text_table([["name", "value"]]) == "name  value"


def test_json_is_one_line_and_keeps_its_letters(capsys: pytest.CaptureFixture[str]) -> None:
    command.print_json({"label": "längst", "values": [1, 2.5]})
    out = capsys.readouterr().out
    assert out == '{"label":"längst","values":[1,2.5]}\n' and json.loads(out)["values"] == [1, 2.5]


def test_progress_leaves_a_file_empty_and_passes_every_item(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(command.progress(range(3), "counting")) == [0, 1, 2]
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_counter_writes_a_line_to_a_log_file_at_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stderr", log)
        with command.progress_counter("rows", 2000, done=500) as advance:
            advance(500)
            advance(1000)
    assert (tmp_path / "log").read_text() == "2,000 of 2,000 rows\n"


def test_a_counter_writes_a_line_to_a_log_file_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    log, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(command.time, "monotonic", lambda: clock[0])
    with command.progress_counter("rows", 100) as advance:
        for clock[0] in (5.0, 11.0, 15.0, 22.0):
            advance(1)
    assert log.getvalue() == "2 of 100 rows\n4 of 100 rows\n"


def refusal(kind: Any, text: str) -> str:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        kind(text)
    return str(caught.value)


def test_a_count_is_a_whole_number_above_zero() -> None:
    assert positive("7") == 7
    for text in ("0", "-1", "1.5", "x", "", "²", "1e3"):
        assert refusal(positive, text) == f"expected a whole number above 0, got '{text}'"


def test_a_seed_is_what_every_generator_takes() -> None:
    assert seed("0") == 0 and seed("4294967295") == 2**32 - 1
    for text in ("-1", "4294967296", "9" * 30, "1.5", "x", ""):
        assert refusal(seed, text) == f"expected a whole number from 0 to 4294967295, got '{text}'"


def test_what_was_closed_at_the_start_is_no_place_for_the_next_file(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; from clients.command import command\n"
        "@command()\n"
        "def main():\n"
        "    print('lost', flush=True)\n"
        f"    with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "        subprocess.run(['echo', 'child'], check=True)\n"
        "        file.write('ours')\n"
        "    return 0\n"
        "sys.exit(main())"
    )
    line = ["bash", "-c", 'exec <&- >&-; exec "$@"', "bash", sys.executable, "-c", program]
    done = subprocess.run(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == "ours"


def test_an_amount_is_a_finite_number_above_zero() -> None:
    assert positive_float("0.5") == 0.5 and positive_float("1e3") == 1000
    for text in ("0", "-1", "nan", "inf", "x", ""):
        assert refusal(positive_float, text) == f"expected a number above 0, got '{text}'"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("0.5", 0.5), ("1m30s", 90), ("1h30m", 5400), ("1h5s", 3605)],
)
def test_a_duration_has_seconds_minutes_or_hours(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["0", "0s", "-5", "5d", "m", "", "1:30", "1 m", "1m30", "30s1m", "nan", "\u0663s", "9" * 400]
)
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str) -> None:
    assert refusal(duration, text) == f"expected a time above 0 as 90, 90s, 5m or 1h30m, got '{text}'"
