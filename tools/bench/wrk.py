"""wrk, a load generator in C, where it is installed (Debian, Ubuntu: apt install wrk).

It costs little of the processor, so it shows more of a fast server that shares its cores than other clients do.
"""

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.contract import Contract
from clients.errors import ToolError
from clients.lifetime import leashed
from tools.bench.options import BenchOptions
from tools.bench.perf_analyzer import measure
from tools.contract import read_contract

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_SCRIPT = """
wrk.method = "POST"
wrk.body = io.open("{body}", "rb"):read("*a")
{headers}
"""


class WrkError(ToolError):
    """wrk failed, or the server did not answer every request with success."""


@dataclass(frozen=True)
class Load:
    """Requests per second, and the latencies of a closed loop in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def is_installed() -> bool:
    """Ask whether wrk is installed."""
    return shutil.which("wrk") is not None


def infer_request(contract: Contract) -> tuple[bytes, dict[str, str]]:
    """Build an inference request of one row with its tensor in binary: body and headers."""
    (tensor,) = contract.inputs
    values = np.random.default_rng(0).random(tensor.dims, np.float32)
    shape, size = [1, *tensor.dims], {"binary_data_size": values.nbytes}
    inputs = [{"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "parameters": size}]
    outputs = [{"name": contract.outputs[0].name, "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return head + values.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def send(url: str, body: bytes, headers: dict[str, str], connections: int, seconds: float) -> Load:
    """Send the same POST over a number of connections, each the next one as soon as it has its answer.

    Raises:
        WrkError: wrk failed, or an answer was no success.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
        script = Path(folder) / "request.lua"
        script.write_text(_SCRIPT.format(body=Path(folder) / "body", headers=lines))
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script), url]
        output = subprocess.run(leashed(["wrk", *options]), capture_output=True, text=True, timeout=seconds + 60)
    failed = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", output.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output.stdout)
    if output.returncode or failed or not rate:
        raise WrkError(f"wrk at {url}: {failed[0] if failed else output.stderr.strip() or output.stdout.strip()}")
    return Load(float(rate[1]), _latency(output.stdout, 50), _latency(output.stdout, 99))


def send_best(model: str, address: str, protocol: str, connections: int, options: BenchOptions) -> Load:
    """Send single rows to a model with wrk if it is HTTP and wrk is installed, else with perf_analyzer."""
    if protocol == "http" and is_installed():
        body, headers = infer_request(read_contract(model, options.repository))
        return send(f"http://{address}/v2/models/{model}/infer", body, headers, connections, options.seconds)
    measured = measure(model, address, protocol, connections, options.seconds / 2)
    return Load(measured.rate, measured.p50_ms, measured.p99_ms)


def _latency(report: str, percentile: int) -> float:
    value = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s|m)", report)
    return float(value[1]) * _UNITS[value[2]] if value else float("nan")
