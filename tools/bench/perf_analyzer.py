"""NVIDIA's perf_analyzer, the native load generator whose figures Triton's users know.

It is no longer published by itself, but the tritonclient wheels up to 2.50 carry the binary. It is fetched with pip
once, unpacked under build/, and finds the two libraries that it needs among those of the nvidia-pytriton wheel.
"""

import csv
import os
import resource
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from clients.errors import ToolError
from tools.repository import ROOT
from tools.serve.wheel import wheel_path

WHEEL = "tritonclient==2.50.0"
FOLDER = ROOT / "build" / "perf_analyzer"
# What the binary asks for, and the name under which nvidia-pytriton carries it.
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
WINDOWS = 3
# A window lasts so many times its --measurement-interval.
STRETCH = 1.2
# In a window each request in flight is answered so often, or the figure says more about its ends than its middle.
ANSWERS = 8
LONGEST_WINDOW = 30.0
RANDOM = "random"  # perf_analyzer's word for inputs of random bytes
# What it says when no request, or only one, was answered within a window.
TOO_SHORT = ("No valid requests recorded", "Please try to increase the --measurement-interval")


class PerfAnalyzerError(ToolError):
    """perf_analyzer cannot be had or failed; the message holds what it said."""


@dataclass(frozen=True)
class Measurement:
    """One concurrency level: inferences per second, latencies in milliseconds, mean microseconds in the server.

    Attributes:
        seconds: of each window, which may be longer than asked for.
        cpu_s: processor seconds, user and system, of the whole run of perf_analyzer.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    queue_us: float
    infer_us: float
    seconds: float
    cpu_s: float


def binary(folder: Path = FOLDER) -> Path:
    """Path of the executable; fetched the first time.

    Raises:
        PerfAnalyzerError: pip cannot get the wheel.
    """
    path = folder / "perf_analyzer"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fetch = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            scratch,
            WHEEL,
        ]
        result = subprocess.run(fetch, capture_output=True, text=True)
        if result.returncode:
            raise PerfAnalyzerError(
                f"pip cannot download {WHEEL}, which carries perf_analyzer: {result.stderr.strip()}"
            )
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/bin/perf_analyzer"))
            unpacked = Path(archive.extract(name, scratch))
        link_libraries(folder)
        unpacked.chmod(0o755)
        unpacked.replace(path)
    return path


def link_libraries(folder: Path) -> None:
    """Give the wheel's libraries the names that the binary looks for."""
    source = wheel_path("pytriton").parent / "nvidia_pytriton.libs"
    for name, pattern in LIBRARIES.items():
        (found,) = source.glob(pattern)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(found)


def measure(model: str, url: str, protocol: str, concurrency: int, seconds: float) -> Measurement:
    """Closed-loop load of random inputs at one concurrency, in three windows of at least `seconds` each.

    Windows in which a slow model answers too few requests for a figure are repeated, longer.

    Raises:
        PerfAnalyzerError: it failed, or did not end in time.
    """
    while True:
        seen = once(model, url, protocol, concurrency, seconds)
        wanted = longer(seen.rate if seen else 0.0, concurrency, seconds)
        if seen and wanted <= seconds:
            return seen
        seconds = wanted


def longer(rate: float, concurrency: int, seconds: float) -> float:
    """Seconds that a window should last: as they are, where each request in flight was answered often enough in them.

    Raises:
        PerfAnalyzerError: the model answers nothing, however long one waits.
    """
    if rate * seconds >= 0.8 * ANSWERS * concurrency:
        return seconds
    if seconds >= LONGEST_WINDOW:
        if rate:
            return seconds
        raise PerfAnalyzerError(f"no answer at concurrency {concurrency} in {seconds:.0f} s")
    return min(LONGEST_WINDOW, ANSWERS * concurrency / rate if rate else 4 * seconds)


def lasting(seconds: float) -> float:
    """Seconds over which the figures are taken, all windows together, of windows of so many seconds asked for."""
    return WINDOWS * STRETCH * seconds


def once(
    model: str, url: str, protocol: str, concurrency: int, seconds: float, inputs: str | Path = RANDOM
) -> Measurement | None:
    """One run of perf_analyzer; None when too few requests for any figure were answered within a window.

    Args:
        model: its name.
        url: HOST:PORT.
        protocol: "http" or "grpc".
        concurrency: requests in flight.
        seconds: of each window.
        inputs: folder with a file of raw values for each input, or RANDOM.

    Raises:
        PerfAnalyzerError: it failed, or did not end in time.
    """
    path = binary()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.csv"
        command = [str(path), *options(model, url, protocol, concurrency, seconds, inputs), "-f", str(report)]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(path.parent)}
        before = children_cpu_s()
        try:
            result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + 20 * seconds)
        except subprocess.TimeoutExpired as error:
            raise PerfAnalyzerError(
                f"perf_analyzer did not end: {model} {protocol} concurrency {concurrency}"
            ) from error
        said = result.stderr + result.stdout
        if any(sign in said for sign in TOO_SHORT):
            return None
        if result.returncode or not report.is_file():
            raise PerfAnalyzerError(f"perf_analyzer failed: {said.strip()[-600:]}")
        return parse(report, seconds, children_cpu_s() - before)


def children_cpu_s() -> float:
    """Processor seconds of the child processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def options(
    model: str, url: str, protocol: str, concurrency: int, seconds: float, inputs: str | Path = RANDOM
) -> list[str]:
    """perf_analyzer's arguments for one measurement."""
    return [
        *("-m", model, "-u", url, "-i", protocol, "--input-data", str(inputs)),
        *("--concurrency-range", str(concurrency), "--measurement-interval", str(int(seconds * 1000))),
        # Its default, a thread for each request in flight, starves both the server and its own clock on few cores.
        *(["--async", "--max-threads", "1"] if concurrency > 1 else ["--sync"]),
        # Its retries until windows agree never end on a noisy machine: three windows, whatever their spread.
        *("--max-trials", str(WINDOWS), "--stability-percentage", "999", "--percentile", "50"),
    ]


def parse(report: Path, seconds: float, cpu_s: float) -> Measurement:
    """The one row of perf_analyzer's CSV report, with what it does not say."""
    with report.open() as stream:
        row = next(csv.DictReader(stream))
    return Measurement(
        rate=float(row["Inferences/Second"]),
        p50_ms=float(row["p50 latency"]) / 1000,
        p99_ms=float(row["p99 latency"]) / 1000,
        queue_us=float(row["Server Queue"]),
        infer_us=float(row["Server Compute Infer"]),
        seconds=seconds,
        cpu_s=cpu_s,
    )
