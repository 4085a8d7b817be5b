"""The whole way on real parts, in one command: `make demo`, or `python -m tools.demo`.

Trains and exports the models that have no version yet, serves them with the embedded tritonserver, verifies that it
answers as the trained networks do, classifies sample images with classifiers and whole pipelines over HTTP and gRPC,
load-tests the classifiers over both protocols and stops. Every figure printed comes from this run; the last line of
stdout is one compact JSON document.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.classification import Answer, classify_files, show
from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.errors import ClientError, ToolError
from clients.images import image_files
from tools.repository import ROOT, RepositoryError, model_names, read_config, read_manifest, versions
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

Document = dict[str, Any]
SAMPLES = ROOT / "build" / "samples"
# What the last line of stdout holds of a load test's figures.
FIGURES = ("rps", "p50_ms", "p95_ms", "p99_ms", "mean_batch", "errors")


class DemoError(ToolError):
    """A step failed; what it printed says why."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=5, help="sample images per model (default: %(default)s)")
    parser.add_argument(
        "--verify", type=int, default=200, metavar="N", help="test images per model to verify with (default: 200)"
    )
    parser.add_argument("--users", type=int, default=16, help="of the load test (default: %(default)s)")
    parser.add_argument("--run-time", type=int, default=5, metavar="S", help="seconds per protocol (default: 5)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    return parser


def title(text: str) -> None:
    """A heading between the steps."""
    print(f"\n== {text}", flush=True)


def build() -> Document:
    """Train and export what is missing; what the newest version of each classifier and pipeline is."""
    title("Train and export what has no version yet")
    # Its own last line is JSON too; here stdout ends with the demo's.
    command = [sys.executable, "-m", "tools.export", "--missing"]
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr.fileno()).returncode:
        raise DemoError("the export failed")
    manifests = {model: read_manifest(model, versions(model)[-1]) for model in model_names() if versions(model)}
    # Steps of pipelines have no accuracy: they answer nobody's question.
    return {model: told(model, manifest) for model, manifest in manifests.items() if "accuracy" in manifest}


def told(model: str, manifest: Document) -> Document:
    """Accuracy, data and version of a model's newest version, printed and returned."""
    data = manifest["data"]["title"]
    print(f"{model} version {manifest['version']}: test accuracy {manifest['accuracy']:.2%} on {data}", flush=True)
    return {"accuracy": manifest["accuracy"], "data": data, "version": manifest["version"]}


def verify(server: Server, models: Sequence[str], images: int) -> Document:
    """Compare the server's answers with the trained networks'; how far they are apart, by model."""
    title(f"Verify: {images} test images per model, over HTTP and gRPC, compared with eager PyTorch")
    command = [sys.executable, "-m", "tools.verify", *models, "--url", server.http, "--grpc-url", server.grpc]
    command += ["--limit", str(images), "--batch-sizes", "1", "8", "--concurrency", "1", "8"]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    *lines, last = result.stdout.splitlines() or [""]
    print("\n".join(lines), flush=True)
    if result.returncode:
        raise DemoError("the verification failed")
    found = json.loads(last)
    return {model: {key: one["findings"][key] for key in ("sent", "max_abs")} for model, one in found.items()}


def pick(model: str, count: int) -> list[Path]:
    """So many sample images, spread evenly over the classes."""
    files = image_files([SAMPLES / model])
    return files[:: max(1, len(files) // count)][:count]


def inference(server: Server, models: Document, count: int) -> list[Document]:
    """Classify samples of every model over both protocols; print each answer beside the truth."""
    answers = []
    for model in models:
        for protocol in PROTOCOLS:
            title(f"Classify with {model} over {protocol}")
            answers += classify(connection(server, protocol), model, count)
    return answers


def connection(server: Server, protocol: Protocol) -> Connection:
    """How to reach the server over a protocol."""
    return Connection(protocol, server.address(protocol))


def classify(connection: Connection, model: str, count: int) -> list[Document]:
    """Classify samples of one model."""
    with Client(connection) as client:
        answers = list(classify_files(client, pick(model, count), model, top=3, batch_size=count))
    for answer in answers:
        print(show(answer, truth=True).removeprefix(f"{SAMPLES}/"), flush=True)
    return [as_document(model, connection.protocol, answer) for answer in answers]


def as_document(model: str, protocol: Protocol, answer: Answer) -> Document:
    """One answer for scripts."""
    best = answer.labels[0]
    return {
        "model": model,
        "protocol": protocol,
        "file": Path(answer.file).name,
        "truth": answer.truth,
        "label": best.name,
        "probability": round(best.probability, 4),
    }


def loadtest(server: Server, models: Sequence[str], users: int, seconds: int) -> Document:
    """Load-test models over both protocols with Locust; their figures."""
    title(f"Load test: {users} users, {seconds} s per protocol")
    command = [sys.executable, "-m", "loadtest.run", "--slo", "errors<1%", "--models", ",".join(models)]
    command += ["--users", str(users), "--run-time", str(seconds)]
    addresses = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **addresses}, stdout=subprocess.PIPE, text=True)
    *lines, last = result.stdout.splitlines() or [""]
    print("\n".join(lines), flush=True)
    if result.returncode:
        raise DemoError("the load test failed")
    return {name: {figure: run[figure] for figure in FIGURES} for name, run in json.loads(last).items()}


def demo(arguments: argparse.Namespace) -> Document:
    """All steps in order; the demo's last line."""
    models = build()
    title("Serve with the embedded tritonserver")
    options = Options(hardware=arguments.hardware, on_log=lambda line: print(line, file=sys.stderr))
    with Server(options) as server:
        print(f"Ready at http://{server.http} (HTTP) and {server.grpc} (gRPC)", flush=True)
        verified = verify(server, list(models), arguments.verify)
        answers = inference(server, models, arguments.images)
        classifiers = [model for model in models if not read_config(model).ensemble_scheduling.step]
        load = loadtest(server, classifiers, arguments.users, arguments.run_time)
        server.check()
    return {"models": models, "verification": verified, "inference": answers, "loadtest": load}


def main() -> int:
    """Entry point."""
    try:
        document = demo(parser().parse_args())
    except (DemoError, ClientError, RepositoryError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the server is stopped", file=sys.stderr)
        return 130
    print(json.dumps(document, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
