"""Requests to a language model over gRPC, as bare as its protocol is, and a repository of copies of one."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tools.repository import REPOSITORY, config_path, model_names, read_config, version_path, versions

FLAGS = ("finish_reason", "cumulative_logprob", "logprobs", "num_input_tokens", "num_output_tokens")
BEGINNINGS = (
    "Once upon a time, a cat",
    "The capital of France is",
    "def add(first, second):\n",
    "<|im_start|>user\nName three rivers of Europe.<|im_end|>\n<|im_start|>assistant\n",
    "A recipe for bread begins with",
    "In winter the old harbour",
    "1, 2, 3, 4,",
    "She opened the letter and",
)


def built_models() -> list[str]:
    """Language models that have a version."""
    return [name for name in model_names() if read_config(name).backend == "vllm" and versions(name)]


def add_copy(
    model: str,
    folder: Path,
    name: str,
    change: Callable[[ModelConfig], None],
    repository: Path = REPOSITORY,
    **arguments: Any,
) -> None:
    """Link a model's version into another repository, with another config and other engine arguments."""
    source, target = version_path(model, versions(model, repository)[-1], repository), folder / name / "1"
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != "model.json":
            (target / path.name).symlink_to(path.resolve())
    (target / "model.json").write_text(json.dumps(json.loads((source / "model.json").read_text()) | arguments))
    config = read_config(model, repository=repository)
    config.name = name
    change(config)
    config_path(name, repository=folder).write_text(str(config))


@dataclass
class Answered:
    """What came: texts by answer, how many tokens each, why they ended, and the outputs of every message."""

    texts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)

    def add(self, outputs: dict[str, Any]) -> None:
        """Add a message."""
        pieces = [text.decode() for text in outputs["text_output"]]
        counts = [int(count) for count in outputs["num_output_tokens"]]
        self.texts = [text + piece for text, piece in zip(self.texts or [""] * len(pieces), pieces, strict=True)]
        self.tokens = [sum(both) for both in zip(self.tokens or [0] * len(counts), counts, strict=True)]
        self.reasons = [reason.decode() for reason in outputs["finish_reason"]]
        self.messages.append(outputs)

    @property
    def text(self) -> str:
        """The only answer's."""
        (text,) = self.texts
        return text


async def messages(
    client: grpc.InferenceServerClient, model: str, prompt: str, stream: bool, inputs: dict[str, bool], **sampling: Any
) -> AsyncIterator[dict[str, Any]]:
    """The responses to a request, as they come; whoever leaves the loop cancels it."""
    flags = {"stream": stream, **{f"return_{name}": True for name in FLAGS}, **inputs}
    tensors = [_texts("text_input", prompt), _texts("sampling_parameters", json.dumps(sampling))]
    tensors += [_tensor(name, np.array([value]), "BOOL") for name, value in flags.items()]

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": model, "inputs": tensors}

    responses = client.stream_infer(requests())
    try:
        async for result, error in responses:
            if error:
                raise error
            yield {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
    finally:
        responses.cancel()


async def answer(
    client: grpc.InferenceServerClient,
    model: str,
    prompt: str,
    stream: bool = True,
    inputs: dict[str, bool] | None = None,
    **sampling: Any,
) -> Answered:
    """The whole answer to a request."""
    answered = Answered()
    async for outputs in messages(client, model, prompt, stream, inputs or {}, **sampling):
        answered.add(outputs)
    return answered


def asked(address: str, *calls: Callable[[grpc.InferenceServerClient], Any]) -> list[Any]:
    """Run calls at once, on one connection; their results, or their exceptions."""

    async def run() -> list[Any]:
        async with grpc.InferenceServerClient(address) as client:
            return await asyncio.gather(*(call(client) for call in calls), return_exceptions=True)

    return asyncio.run(run())


def metrics(address: str, model: str) -> dict[str, float]:
    """The engine's metrics of a model by their names, labels of their own included."""
    with urllib.request.urlopen(f"http://{address}/metrics") as response:
        lines = [line for line in response.read().decode().splitlines() if line.startswith("vllm:")]
    own = [line for line in lines if f'model="{model}"' in line]
    return {_name(line): float(line.rsplit(" ", 1)[1]) for line in own}


def _name(line: str) -> str:
    """A series without what all have: its name, and its reason or bound in brackets."""
    name, _, labels = line.rsplit(" ", 1)[0].partition("{")
    own = [
        label.split("=")[1].strip('"') for label in labels.strip("}").split(",") if label[:5] not in ("model", "versi")
    ]
    return f"{name.removeprefix('vllm:')}{own[0] and f'[{own[0]}]' if own else ''}"


def _texts(name: str, text: str) -> grpc.InferInput:
    return _tensor(name, np.array([text.encode()], np.object_), "BYTES")


def _tensor(name: str, array: Any, datatype: str) -> grpc.InferInput:
    tensor = grpc.InferInput(name, [1], datatype)
    tensor.set_data_from_numpy(array)
    return tensor
