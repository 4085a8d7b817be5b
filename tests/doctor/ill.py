"""Servers that are ill on purpose: models whose times are known, callers, and one planted fault for each."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil

from clients.client import Client
from clients.connection import Connection
from tests.waiting import soon
from tools.doctor.asking import Watch, see
from tools.doctor.observation import Seen
from tools.repository import ROOT
from tools.serve.tritonserver import Options, Server

_MODEL = """
import json
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        values = json.loads(args["model_config"])["parameters"]
        self.fixed, self.each, self.burn = (float(values[key]["string_value"]) for key in ("fixed", "each", "burn"))
        self.outputs = json.loads(args["model_config"])["output"][0]["dims"][0]

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        ms = self.fixed + self.each * sum(len(x) for x in inputs)
        end = time.thread_time() + ms * self.burn / 1000
        time.sleep(ms * (1 - self.burn) / 1000)
        while time.thread_time() < end:
            pass
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", x[..., : self.outputs].copy())]) for x in inputs]
"""
_CONFIG = """
backend: "python" max_batch_size: {batch}
input {{ name: "X" data_type: TYPE_FP32 dims: [ {dims} ] }}
output {{ name: "Y" data_type: TYPE_FP32 dims: [ {outputs} ] }}
instance_group {{ kind: KIND_CPU count: {instances} }}
parameters {{ key: "fixed" value {{ string_value: "{fixed}" }} }}
parameters {{ key: "each" value {{ string_value: "{each}" }} }}
parameters {{ key: "burn" value {{ string_value: "{burn}" }} }}
{more}
"""
_ENSEMBLE = """
platform: "ensemble" max_batch_size: 0
input {{ name: "X" data_type: TYPE_FP32 dims: [ 4 ] }} output {{ name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }}
ensemble_scheduling {{ step {{ model_name: "{step}" model_version: -1
  input_map {{ key: "X" value: "X" }} output_map {{ key: "Y" value: "Y" }} }} }}
"""
_BATCHES = "dynamic_batching { }"


@dataclass(frozen=True)
class Model:
    """A Python model that takes fixed + each · batch ms: sleeping, or for a share `burn` of it computing."""

    fixed: float = 8.0
    each: float = 0.1
    burn: float = 0.0
    batch: int = 16
    dims: int = 4
    outputs: int = 1
    instances: int = 1
    more: str = _BATCHES
    source: str = _MODEL

    def write(self, repository: Path, name: str) -> None:
        """Write its folder, and where it takes no batches, an ensemble around it."""
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.py").write_text(self.source)
        (repository / name / "config.pbtxt").write_text(_CONFIG.format(**asdict(self)))
        if not self.batch:
            (repository / f"{name}_pipeline" / "1").mkdir(parents=True)
            (repository / f"{name}_pipeline" / "config.pbtxt").write_text(_ENSEMBLE.format(step=name))


@dataclass(frozen=True)
class Fault:
    """A planted fault: its model, who calls it, and the flags of its server."""

    model: Model = field(default_factory=Model)
    callers: int = 4
    pause_s: float = 0.0  # of each caller after an answer
    rate: float = 0.0  # of requests that do not wait for each other, in place of callers
    flags: tuple[str, ...] = ()
    is_outside: bool = False  # reached by an address that is not the loopback's
    twin: Model | None = None  # of a second server

    def entry(self, name: str) -> str:
        """The model that callers ask."""
        return name if self.model.batch else f"{name}_pipeline"


HEALTHY = Fault(Model(fixed=3.0), callers=3, pause_s=0.008)
FAULTS = {
    "callers in turn": Fault(callers=1),
    "queue delay": Fault(
        Model(more="dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 30000 }"), callers=2
    ),
    "preferred sizes": Fault(Model(more="dynamic_batching { preferred_batch_size: [ 2 ] }"), callers=10),
    "batching": Fault(Model(more=""), callers=6),
    "step without batches": Fault(Model(batch=0, more="", each=0), callers=6),
    "instances": Fault(Model(fixed=0.5, each=12.0), callers=6),
    "too many instances": Fault(Model(fixed=5.0, burn=1.0, instances=8), callers=8),
    "response cache": Fault(
        Model(fixed=0.2, each=0, dims=131072, outputs=131072, more=f"{_BATCHES} response_cache {{ enable: true }}"),
        callers=2,
        flags=("--cache-config=local,size=67108864",),
    ),
    "queue growing": Fault(Model(fixed=0.0, each=10.0), rate=180),
    "unready": Fault(Model(source="import no_such_package\n"), callers=0),
    "latency summaries": Fault(HEALTHY.model, 3, 0.008, flags=("--metrics-config=summary_latencies=true",)),
    "admin APIs open": Fault(HEALTHY.model, 3, 0.008, is_outside=True),
    "replicas differ": Fault(HEALTHY.model, 3, 0.008, twin=Model(fixed=3.0, batch=8)),
}


def outside_address() -> str | None:
    """An IPv4 address of this host that is not the loopback's; None where there is none."""
    found = [one.address for all_ in psutil.net_if_addrs().values() for one in all_ if one.family == socket.AF_INET]
    return next((address for address in found if not address.startswith("127.")), None)


@contextmanager
def calling(url: str, name: str, fault: Fault) -> Iterator[None]:
    """Call a model as its fault says, with other numbers each time."""
    if fault.rate:
        with _on_schedule(url, name, fault.rate):
            yield
        return
    stop = threading.Event()

    def call(seed: int) -> None:
        random, shape = np.random.default_rng(seed), (1, fault.model.dims) if fault.model.batch else (fault.model.dims,)
        with Client(Connection("http", url)) as client:
            while not stop.is_set():
                client.infer(fault.entry(name), random.standard_normal(shape, np.float32))
                time.sleep(random.exponential(fault.pause_s) if fault.pause_s else 0)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(fault.callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def _on_schedule(url: str, name: str, rate: float) -> Iterator[None]:
    words = ["loadtest.run", name, "--url", url, "--rate", f"{rate:g}", "--duration", "60", "--report", "build/ill"]
    process = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        with Client(Connection("http", url)) as client:
            assert soon(lambda: any(entry["inference_count"] for entry in client.statistics(name)), 60)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def serving(folder: Path, names: Sequence[str], faults: Callable[[str], Fault]) -> Iterator[Server]:
    """Serve models with faults from one repository; what does not load is left out."""
    for name in names:
        faults(name).model.write(folder, name)
    flags = [flag for name in names for flag in faults(name).flags]
    host = outside_address() if any(faults(name).is_outside for name in names) else None
    options = Options(folder, host=host or "127.0.0.1", hardware="cpu", flags=flags, is_lenient=True)
    with Server(options) as server:
        yield server


def observed(server: Server, seconds: float, load_s: float = 0.0) -> Seen:
    """What the doctor sees of a server."""
    return see(Watch(Connection("http", server.http), server.metrics, seconds, load_s))


@contextmanager
def ward(folder: Path, faults: dict[str, Fault]) -> Iterator[Server]:
    """One server with several faults, each in a model of its own, all of them called."""
    names = {fault.replace(" ", "_"): fault for fault in faults}
    with ExitStack() as stack:
        server = stack.enter_context(serving(folder, list(names), lambda name: faults[names[name]]))
        for name, fault in names.items():
            stack.enter_context(calling(server.http, name, faults[fault]))
        time.sleep(0.5)
        yield server
