"""Send odd requests to the native backend, while models are loaded and unloaded: `python -m tests.fuzz`.

Shapes, data types, sizes, names and requested outputs are drawn at random, most of them wrong, over gRPC and HTTP. The
server must live, every model must still answer correctly afterwards, and memory must not grow. Exit code 1 otherwise.

    python -m tests.fuzz --requests 10000 --seed 1
    python -m tests.fuzz --requests 2000 --sanitizer address    # or thread: the backend compiled with it
"""

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

from clients.command import command, command_parser, positive, print_json, progress_counter, say
from tests.e2e.backend_models import DTYPES, GOOD, STATEFUL, write
from tools.serve import launch, native
from tools.serve.tritonserver import Options, Server
from tools.serve.usage import memory_bytes

CALLERS = 4
MODELS = {
    name: GOOD[name] for name in ("by_argument", "strings", "dtypes", "moody", "reshaped", "from_dict")
} | STATEFUL
# These come and go meanwhile; callers of them must be told so.
CHURNED = ("short", "one_thread")
NAMES = ("a", "b", "INPUT__0", "INPUT__1", "TEXT", "left", "right", "x", *(f"IN__{number}" for number in range(9)))
# Requests that are right but for what is drawn: the inputs of each model.
INPUTS = {
    "by_argument": {"a": "FP32", "b": "FP32"},
    "from_dict": {"left": "FP32", "right": "FP32"},
    "strings": {"TEXT": "BYTES"},
    "dtypes": {f"IN__{number}": dtype for number, dtype in enumerate(DTYPES)},
    **{name: {"INPUT__0": "FP32"} for name in ("moody", "running_sum", *CHURNED)},
    "reshaped": {"x": "FP32"},
}
MOST_ELEMENTS = 1e5
# tritonserver itself keeps memory of large requests and of sequences that never end. That the backend leaves nothing
# behind of a request, answered or refused, is shown by tests/e2e/test_backend.py.
GROWTH = 200e6


def random_shape(chance: random.Random) -> list[int]:
    """Draw a shape that may be empty, large in one dimension, or of any rank; often one that a model takes."""
    if chance.random() < 0.5:
        return [chance.randint(1, 8), chance.choice([1, 2, 4])]
    shape = [chance.choice([0, 1, 1, 2, 2, 2, 3, 8, 9, 1000]) for _ in range(chance.choice([0, 1, 2, 2, 2, 3, 5]))]
    while np.prod(shape) > MOST_ELEMENTS:
        shape.pop()
    return shape


def random_array(chance: random.Random, dtype: str, shape: list[int]) -> np.ndarray[Any, Any]:
    """Draw the values of a tensor, extremes among them."""
    if dtype == "BYTES":
        return np.full(shape, chance.choice([b"", b"text", b"\xff\xfe", b"x" * 1000]), np.object_)
    values = np.random.default_rng(chance.randrange(1 << 30)).normal(scale=chance.choice([1, 1e30]), size=shape)
    with np.errstate(all="ignore"):
        return np.asarray(values).astype(triton_to_np_dtype(dtype))


def send(chance: random.Random, server: Server, client: grpc.InferenceServerClient) -> str:
    """Send one request over either protocol; return what came of it."""
    module: Any = chance.choice([grpc, http])
    model = chance.choice(list(INPUTS))
    types = dict(INPUTS[model])
    if chance.random() < 0.3:
        types = {name: chance.choice([*DTYPES, "BYTES"]) for name in chance.sample(NAMES, chance.choice([0, 1, 2, 9]))}
    inputs, shape = [], random_shape(chance)
    for name, dtype in types.items():
        array = random_array(chance, dtype, shape if chance.random() < 0.9 else random_shape(chance))
        inputs.append(module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    options: dict[str, Any] = {}
    if chance.random() < 0.3:
        options["outputs"] = [module.InferRequestedOutput(chance.choice(["OUTPUT__0", "OUTPUT__1", "y", "none"]))]
    if chance.random() < 0.3:
        options |= {"sequence_id": chance.randrange(5), "sequence_start": chance.random() < 0.5}
    try:
        if module is grpc:
            client.infer(model, inputs, client_timeout=30, **options)
        else:
            with http.InferenceServerClient(server.http, network_timeout=30) as other:
                other.infer(model, inputs, **options)
    except InferenceServerException as error:
        return f"{module.__name__.rpartition('.')[2]} refused: {error.status()}"
    except (OSError, ValueError, TypeError) as error:  # The client cannot even encode or send it.
        return f"not sent: {type(error).__name__}"
    return "answered"


def churn(client: grpc.InferenceServerClient, stop: threading.Event) -> int:
    """Load and unload models until told to stop; return how often."""
    count = 0
    while not stop.is_set():
        for model in CHURNED:
            client.load_model(model)
            client.unload_model(model)
            count += 1
        time.sleep(0.02)
    return count


def answers_correctly(client: grpc.InferenceServerClient) -> bool:
    """Ask one model something that it answers."""
    tensor = grpc.InferInput("INPUT__0", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[0, 7]], np.float32))
    return client.infer("moody", [tensor]).as_numpy("OUTPUT__0").tolist() == [[0, 7]]


def fuzz(server: Server, requests: int, seed: int) -> dict[str, Any]:
    """Send all requests; memory is compared after half of them and at the end."""
    outcomes: Counter[str] = Counter()
    stop = threading.Event()

    def share(number: int, count: int) -> None:
        chance = random.Random(f"{seed} {number}")
        with grpc.InferenceServerClient(server.grpc) as client:
            for _ in range(count):
                outcomes[send(chance, server, client)] += 1
                advance(1)

    with (
        grpc.InferenceServerClient(server.grpc) as client,
        ThreadPoolExecutor(CALLERS + 1) as pool,
        progress_counter("requests", requests) as advance,
    ):
        churning = pool.submit(churn, client, stop)
        memory = []
        try:
            for part, count in enumerate((requests // 2, requests - requests // 2)):
                list(pool.map(share, range(part * CALLERS, (part + 1) * CALLERS), [count // CALLERS] * CALLERS))
                memory.append(memory_bytes(server.pid))
        finally:
            stop.set()
        loads = churning.result()
        server.check()
        correct = answers_correctly(client)
    grown = memory[1] - memory[0]
    return {
        "outcomes": dict(outcomes),
        "loads": loads,
        "grown_bytes": grown,
        "correct": correct,
        "memory_bytes": memory,
    }


def with_sanitizer(name: str, folder: Path) -> None:
    """Have the backend compiled with a sanitizer, and its runtime loaded before tritonserver; reports go to the log."""
    runtime = {"address": "libasan.so", "thread": "libtsan.so"}[name]
    native.FLAGS = (*native.FLAGS, f"-fsanitize={name}", "-fno-omit-frame-pointer", "-g")
    native.CACHE = folder / "native"
    native._try_loading = lambda library: None  # Its process would lack the runtime.
    path = subprocess.run(["g++", f"-print-file-name={runtime}"], capture_output=True, text=True, check=True).stdout
    # For tritonserver alone: a shell crashes with the runtime for threads.
    launch.WITH_DEEP_STACKS = (*launch.WITH_DEEP_STACKS, "env", f"LD_PRELOAD={path.strip()}")
    # torch and tritonserver are not instrumented: what they hold on to is not our leak.
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0:halt_on_error=1"
    os.environ["TSAN_OPTIONS"] = "halt_on_error=0:report_signal_unsafe=0:ignore_noninstrumented_modules=1"


@command()
def main() -> int:
    """Fuzz a server of our own."""
    parser = command_parser("tests.fuzz", __doc__)
    parser.add_argument("--requests", type=positive, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--backend", choices=("native", "python"), default="native", help="(default: %(default)s)")
    parser.add_argument("--sanitizer", choices=("address", "thread"), help="compile the native backend with it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.sanitizer:
            with_sanitizer(arguments.sanitizer, Path(folder))
        repository = write(Path(folder), MODELS | {name: GOOD[name] for name in CHURNED})
        flags = ["--model-control-mode=explicit", *(f"--load-model={model}" for model in MODELS)]
        with Server(Options(repository, backend=arguments.backend, ready_timeout=300, flags=flags)) as server:
            found = fuzz(server, arguments.requests, arguments.seed)
        reports = [line for line in server.log if "Sanitizer" in line]
    print_json({**found, "sanitizer": reports})
    grown = not arguments.sanitizer and found["grown_bytes"] > GROWTH  # Sanitizers keep freed memory.
    failed = not found["correct"] or grown or reports
    say("the server failed" if failed else "the server lives, answers and does not grow")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
