"""NVIDIA's perf_analyzer, the native load generator whose figures Triton's users know.

It is no longer published by itself, but the tritonclient wheels up to 2.50 contain the binary. It is downloaded once
with pip and unpacked under build/; the two libraries that it needs come from the nvidia-pytriton wheel.
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
from clients.lifetime import leashed
from tools.repository import ROOT
from tools.serve.wheel import wheel_path

_WHEEL = "tritonclient==2.50.0"
_FOLDER = ROOT / "build" / "perf_analyzer"
# What the binary loads, and the name under which nvidia-pytriton contains it.
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
_WINDOWS = 3
_STRETCH = 1.2  # length of a window as a multiple of its --measurement-interval
_ANSWERS = 8  # of each request in flight within a window, or its ends would distort the figures
LONGEST_WINDOW = 30.0
_RANDOM = "random"  # perf_analyzer's word for inputs of random bytes
# Its messages when no request, or only one, was answered within a window.
_TOO_SHORT = ("No valid requests recorded", "Please try to increase the --measurement-interval")


class PerfAnalyzerError(ToolError):
    """perf_analyzer cannot be downloaded or failed; the message contains its own."""


@dataclass(frozen=True)
class Measurement:
    """The figures at one concurrency.

    Attributes:
        rate: inferences per second.
        p50_ms, p99_ms: latencies.
        queue_us, infer_us: means in the server.
        seconds: length of each window, which may be longer than requested.
        cpu_s: processor seconds of the whole run of perf_analyzer.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    queue_us: float
    infer_us: float
    seconds: float
    cpu_s: float


def _binary(folder: Path = _FOLDER) -> Path:
    path = folder / "perf_analyzer"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        result = subprocess.run(leashed([*download, "--dest", scratch, _WHEEL]), capture_output=True, text=True)
        if result.returncode:
            raise PerfAnalyzerError(f"pip cannot download {_WHEEL} for perf_analyzer: {result.stderr.strip()}")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/bin/perf_analyzer"))
            unpacked = Path(archive.extract(name, scratch))
        _link_libraries(folder)
        unpacked.chmod(0o755)
        unpacked.replace(path)
    return path


def _link_libraries(folder: Path) -> None:
    source = wheel_path("pytriton").parent / "nvidia_pytriton.libs"
    for name, pattern in _LIBRARIES.items():
        (library,) = source.glob(pattern)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(library)


def measure(model: str, url: str, protocol: str, concurrency: int, seconds: float) -> Measurement:
    """Measure a closed loop of random inputs at one concurrency, in three windows of at least `seconds` each.

    Where a slow model answers too few requests for a figure, the run is repeated with longer windows.

    Raises:
        PerfAnalyzerError: it failed, or did not end in time.
    """
    while True:
        measurement = measure_once(model, url, protocol, concurrency, seconds)
        wanted = window_length(measurement.rate if measurement else 0.0, concurrency, seconds)
        if measurement and wanted <= seconds:
            return measurement
        seconds = wanted


def window_length(rate: float, concurrency: int, seconds: float) -> float:
    """How long a window should be, in seconds; unchanged where each request in flight was answered often enough.

    Raises:
        PerfAnalyzerError: nothing is answered even in the longest window.
    """
    if rate * seconds >= 0.8 * _ANSWERS * concurrency:
        return seconds
    if seconds >= LONGEST_WINDOW:
        if rate:
            return seconds
        raise PerfAnalyzerError(f"no answer at concurrency {concurrency} in {seconds:.0f} s")
    return min(LONGEST_WINDOW, _ANSWERS * concurrency / rate if rate else 4 * seconds)


def total_seconds(seconds: float) -> float:
    """Length of all windows together, where each was requested to last `seconds`."""
    return _WINDOWS * _STRETCH * seconds


def measure_once(
    model: str, url: str, protocol: str, concurrency: int, seconds: float, inputs: str | Path = _RANDOM
) -> Measurement | None:
    """Run perf_analyzer once; None when too few requests for any figure were answered within a window.

    Args:
        model: its name.
        url: HOST:PORT.
        protocol: "http" or "grpc".
        concurrency: requests in flight.
        seconds: of each window.
        inputs: folder with a file of raw values for each input, or "random".

    Raises:
        PerfAnalyzerError: it failed, or did not end in time.
    """
    path = _binary()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.csv"
        command = leashed([str(path), *_options(model, url, protocol, concurrency, seconds, inputs), "-f", str(report)])
        environment = {**os.environ, "LD_LIBRARY_PATH": str(path.parent)}
        before = children_cpu_s()
        try:
            result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + 20 * seconds)
        except subprocess.TimeoutExpired as error:
            message = f"perf_analyzer did not end: {model} {protocol} concurrency {concurrency}"
            raise PerfAnalyzerError(message) from error
        output = result.stderr + result.stdout
        if any(sign in output for sign in _TOO_SHORT):
            return None
        if result.returncode or not report.is_file():
            raise PerfAnalyzerError(f"perf_analyzer failed: {output.strip()[-600:]}")
        return _parse(report, seconds, children_cpu_s() - before)


def children_cpu_s() -> float:
    """Processor seconds, user and system, of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _options(model: str, url: str, protocol: str, concurrency: int, seconds: float, inputs: str | Path) -> list[str]:
    return [
        *("-m", model, "-u", url, "-i", protocol, "--input-data", str(inputs)),
        *("--concurrency-range", str(concurrency), "--measurement-interval", str(int(seconds * 1000))),
        # Its default, a thread for each request in flight, starves the server and its own timing on few cores.
        *(["--async", "--max-threads", "1"] if concurrency > 1 else ["--sync"]),
        # It would repeat windows until they agree, which never happens on a noisy machine.
        *("--max-trials", str(_WINDOWS), "--stability-percentage", "999", "--percentile", "50"),
    ]


def _parse(report: Path, seconds: float, cpu_s: float) -> Measurement:
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
