"""The whole way on real parts, in one command: `make demo`, or `python -m tools.demo`.

Trains and exports the models that have no version yet, serves them with the embedded tritonserver, compares its
answers with the trained networks', classifies sample images with classifiers and pipelines over HTTP and gRPC, and
load-tests the classifiers over both protocols. Every figure comes from this run; the last line of stdout is JSON.
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
from clients.command import command, command_parser, print_json, say
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.errors import ToolError
from clients.images import image_files
from tools.repository import ROOT, model_names, read_config, read_manifest, versions
from tools.serve.hardware import HARDWARE
from tools.serve.tritonserver import Options, Server

Document = dict[str, Any]
SAMPLES = ROOT / "build" / "samples"
# The figures of a load test that go into the last line of stdout.
FIGURES = ("rps", "p50_ms", "p95_ms", "p99_ms", "mean_batch", "errors")


class _StepError(ToolError):
    """A step failed; its own output says why."""

    exit_code = 1


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.demo", __doc__)
    parser.add_argument("--images", type=int, default=5, help="sample images per model (default: %(default)s)")
    parser.add_argument(
        "--verify",
        type=int,
        default=200,
        metavar="N",
        help="test images per model to verify with (default: %(default)s)",
    )
    parser.add_argument("--users", type=int, default=16, help="virtual users of the load test (default: %(default)s)")
    parser.add_argument(
        "--run-time", type=int, default=5, metavar="S", help="seconds per protocol (default: %(default)s)"
    )
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    return parser


def _title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _build() -> Document:
    _title("Train and export the models that have no version yet")
    # Its last line is JSON too, but stdout must end with the demo's.
    line = [sys.executable, "-m", "tools.export", "--missing"]
    if subprocess.run(line, cwd=ROOT, stdout=sys.stderr.fileno()).returncode:
        raise _StepError("the export failed")
    manifests = {model: read_manifest(model, versions(model)[-1]) for model in model_names() if versions(model)}
    # Steps of pipelines have no accuracy of their own, and are not called directly.
    return {model: _show_manifest(model, manifest) for model, manifest in manifests.items() if "accuracy" in manifest}


def _show_manifest(model: str, manifest: Document) -> Document:
    data = manifest["data"]["title"]
    print(f"{model} version {manifest['version']}: test accuracy {manifest['accuracy']:.2%} on {data}", flush=True)
    return {"accuracy": manifest["accuracy"], "data": data, "version": manifest["version"]}


def _verify(server: Server, models: Sequence[str], images: int) -> Document:
    _title(f"Verify: {images} test images per model, over HTTP and gRPC, compared with eager PyTorch")
    command = [sys.executable, "-m", "tools.verify", *models, "--url", server.http, "--grpc-url", server.grpc]
    command += ["--limit", str(images), "--batch-sizes", "1", "8", "--concurrency", "1", "8"]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    *lines, last = result.stdout.splitlines() or [""]
    print("\n".join(lines), flush=True)
    if result.returncode:
        raise _StepError("the verification failed")
    found = json.loads(last)
    return {model: {key: one["findings"][key] for key in ("sent", "max_abs")} for model, one in found.items()}


def _pick(model: str, count: int) -> list[Path]:
    # Evenly spread over the classes.
    files = image_files([SAMPLES / model])
    return files[:: max(1, len(files) // count)][:count]


def _inference(server: Server, models: Document, count: int) -> list[Document]:
    answers = []
    for model in models:
        for protocol in PROTOCOLS:
            _title(f"Classify with {model} over {protocol}")
            answers += _classify(_connection(server, protocol), model, count)
    return answers


def _connection(server: Server, protocol: Protocol) -> Connection:
    return Connection(protocol, server.address(protocol))


def _classify(connection: Connection, model: str, count: int) -> list[Document]:
    with Client(connection) as client:
        answers = list(classify_files(client, _pick(model, count), model, top=3, batch_size=count))
    for answer in answers:
        print(show(answer, truth=True).removeprefix(f"{SAMPLES}/"), flush=True)
    return [_as_document(model, connection.protocol, answer) for answer in answers]


def _as_document(model: str, protocol: Protocol, answer: Answer) -> Document:
    best = answer.labels[0]
    return {
        "model": model,
        "protocol": protocol,
        "file": Path(answer.file).name,
        "truth": answer.truth,
        "label": best.name,
        "probability": round(best.probability, 4),
    }


def _loadtest(server: Server, models: Sequence[str], users: int, seconds: int) -> Document:
    _title(f"Load test: {users} users, {seconds} s per protocol")
    command = [sys.executable, "-m", "loadtest.swarm", "--slo", "errors<1%", "--models", ",".join(models)]
    command += ["--users", str(users), "--run-time", str(seconds)]
    addresses = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **addresses}, stdout=subprocess.PIPE, text=True)
    *lines, last = result.stdout.splitlines() or [""]
    print("\n".join(lines), flush=True)
    if result.returncode:
        raise _StepError("the load test failed")
    return {name: {figure: run[figure] for figure in FIGURES} for name, run in json.loads(last).items()}


def _demo(arguments: argparse.Namespace) -> Document:
    models = _build()
    _title("Serve with the embedded tritonserver")
    options = Options(hardware=arguments.hardware, on_log=say)
    with Server(options) as server:
        print(f"Ready at http://{server.http} (HTTP) and {server.grpc} (gRPC)", flush=True)
        verified = _verify(server, list(models), arguments.verify)
        answers = _inference(server, models, arguments.images)
        classifiers = [model for model in models if not read_config(model).ensemble_scheduling.step]
        load = _loadtest(server, classifiers, arguments.users, arguments.run_time)
        server.check()
    return {"models": models, "verification": verified, "inference": answers, "loadtest": load}


@command(interrupted="the server is stopped")
def main() -> int:
    """Run all steps in order."""
    print_json(_demo(_parser().parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
