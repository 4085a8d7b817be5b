"""The whole way on real parts, in one command: `make demo`, or `python -m tools.demo`.

Trains and exports the models that have no version yet, serves them with the embedded tritonserver, compares its
answers with the trained networks', classifies sample images with classifiers and pipelines over HTTP and gRPC, and
load-tests the classifiers over both protocols. Every figure comes from this run; the last line of stdout is JSON.

With --language NAME, `make demo-lm` does so with a language model: it is exported and served alone, answers a question
word by word, and is load-tested by eight callers.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from clients.classification import classify_files, show
from clients.client import Client
from clients.command import command, command_parser, duration, positive, print_json, say
from clients.connection import PROTOCOLS, Connection
from clients.errors import ToolError
from clients.images import image_files
from clients.installation import module_line
from clients.lifetime import leashed
from tools.repository import ROOT, model_names, read_config, read_manifest, versions
from tools.serve.hardware import HARDWARE
from tools.serve.tritonserver import Options, Server

Document = dict[str, Any]
SAMPLES = ROOT / "build" / "samples"
# The figures of a load test that go into the last line of stdout.
FIGURES = ("rps", "p50_ms", "p95_ms", "p99_ms", "mean_batch", "errors")

_QUESTION = "What is the capital of France, and what is it known for?"


class _StepError(ToolError):
    """A step failed; its own output says why."""

    exit_code = 1


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.demo", __doc__)
    add = parser.add_argument
    add("--images", type=positive, default=5, help="sample images per model")
    add("--verify", type=positive, default=200, metavar="N", help="test images per model to verify with")
    add("--users", type=positive, default=16, help="virtual users of the load test")
    add("--run-time", type=duration, default="5s", metavar="TIME", help="per protocol")
    add("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve")
    add("--language", metavar="NAME", help="show this language model instead")
    return parser


def _title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _export(*models: str) -> None:
    _run("export", ["tools.export", "--missing", *models], {})


def _build() -> Document:
    _title("Train and export the models that have no version yet")
    _export()
    built = {}
    for model in filter(versions, model_names()):
        manifest = read_manifest(model, versions(model)[-1])
        # Steps of pipelines have no accuracy of their own, and are not called directly.
        if "accuracy" in manifest:
            accuracy, data, version = manifest["accuracy"], manifest["data"]["title"], manifest["version"]
            print(f"{model} version {version}: test accuracy {accuracy:.2%} on {data}", flush=True)
            built[model] = {"accuracy": accuracy, "data": data, "version": version}
    return built


def _run(step: str, command: Sequence[str], environment: Mapping[str, str]) -> Document:
    # Shows what a command prints as it comes, except its last line, which is JSON and is returned.
    line, variables, last = leashed(module_line(*command)), {**os.environ, **environment}, ""
    with subprocess.Popen(line, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        try:
            for text in child.stdout:
                print(last, end="", flush=True)
                last = text
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise _StepError(f"the {step} failed")
    document: Document = json.loads(last)
    return document


def _verify(server: Server, models: Sequence[str], images: int) -> Document:
    _title(f"Verify: {images} test images per model, over HTTP and gRPC, compared with eager PyTorch")
    command = ["tools.verify", *models, "--url", server.http, "--grpc-url", server.grpc, "--limit", str(images)]
    command += ["--batch-sizes", "1", "8", "--concurrency", "1", "8"]
    verified = _run("verification", command, {})
    return {model: {key: one["findings"][key] for key in ("sent", "max_abs")} for model, one in verified.items()}


def _inference(server: Server, models: Sequence[str], count: int) -> list[Document]:
    documents = []
    for model, protocol in product(models, PROTOCOLS):
        _title(f"Classify with {model} over {protocol}")
        files = image_files([SAMPLES / model])
        chosen = files[:: max(1, len(files) // count)][:count]  # Evenly spread over the classes.
        with Client(Connection(protocol, server.address(protocol))) as client:
            answers = list(classify_files(client, chosen, model, top=3, batch_size=count))
        for answer in answers:
            print(show(answer, truth=True).removeprefix(f"{SAMPLES}/"), flush=True)
            document = {"model": model, "protocol": protocol, "file": Path(answer.file).name, "truth": answer.truth}
            best = answer.labels[0]
            documents.append({**document, "label": best.name, "probability": round(best.probability, 4)})
    return documents


def _loadtest(server: Server, models: Sequence[str], users: int, seconds: float) -> Document:
    _title(f"Load test: {users} users, {seconds:g} s per protocol")
    command = ["loadtest.swarm", "--slo", "errors<1%", "--models", ",".join(models)]
    command += ["--users", str(users), "--run-time", str(seconds)]
    runs = _run("load test", command, {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc})
    return {name: {figure: run[figure] for figure in FIGURES} for name, run in runs.items()}


def _language(model: str, hardware: str) -> Document:
    _title(f"Export {model}, unless it has a version")
    _export(model)
    manifest = read_manifest(model, versions(model)[-1])
    _title("Serve it with the embedded tritonserver, ask it, and load-test it")
    flags = ["--model-control-mode=explicit", f"--load-model={model}"]
    with Server(Options(hardware=hardware, on_log=say, flags=flags)) as server:
        question = ["clients.generate", _QUESTION, "--chat", "--model", model, "--max-tokens", "48"]
        line = leashed(module_line(*question, "--url", server.grpc, "--protocol", "grpc"))
        print(f"> {_QUESTION}", flush=True)
        if subprocess.run(line, cwd=ROOT).returncode:
            raise _StepError("the question failed")
        load = ["loadtest.llm", model, "--concurrency", "8", "--duration", "10", "--output-tokens", "32"]
        result = _run("load test", load, {"TRITON_GRPC_URL": server.grpc})
        server.check()
    return {"model": model, "language": manifest["language"], "loadtest": result}


@command(interrupted="the server is stopped")
def main() -> int:
    """Run all steps in order."""
    arguments = _parser().parse_args()
    if arguments.language:
        print_json(_language(arguments.language, arguments.hardware))
        return 0
    models = _build()
    _title("Serve with the embedded tritonserver")
    with Server(Options(hardware=arguments.hardware, on_log=say)) as server:
        print(f"Ready at http://{server.http} (HTTP) and {server.grpc} (gRPC)", flush=True)
        verified = _verify(server, list(models), arguments.verify)
        answers = _inference(server, list(models), arguments.images)
        classifiers = [model for model in models if not read_config(model).ensemble_scheduling.step]
        load = _loadtest(server, classifiers, arguments.users, arguments.run_time)
        server.check()
    print("\nTo try the models in a browser: make serve, then http://127.0.0.1:8007/", flush=True)
    print_json({"models": models, "verification": verified, "inference": answers, "loadtest": load})
    return 0


if __name__ == "__main__":
    sys.exit(main())
