"""Triton's HTTP replies as a router sees them: whether two of them agree, and under which name a model answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tritonclient.http import InferResult

from clients.contract import Array

LENGTH = "Inference-Header-Content-Length"
# Triton's classification extension: "score:index" or "score:index:label".
_CLASS = re.compile(rb"-?[0-9.e+-]+:(\d+)(:.*)?")


@dataclass(frozen=True)
class Reply:
    """A reply: its status (0 if there was none), headers and body, and the seconds that it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the request was answered."""
        return self.status == 200


def agree(one: Reply, other: Reply) -> bool:
    """Whether two replies to one request give the same prediction for each row: the same class, number or text."""
    try:
        return bool(np.array_equal(_predictions(_first_output(one)), _predictions(_first_output(other))))
    except (ValueError, KeyError, IndexError, TypeError):
        return one.body == other.body


def _first_output(reply: Reply) -> Array:
    """A reply's first output, [rows, …]; others are details. ValueError if the body is not Triton's."""
    length = reply.headers.get(LENGTH)
    result = InferResult.from_response_body(
        reply.body,
        header_length=int(length) if length else None,
        content_encoding=reply.headers.get("Content-Encoding"),
    )
    array: Array = result.as_numpy(result.get_response()["outputs"][0]["name"])
    return array


def _predictions(output: Array) -> Array:
    """Reduce scores to the index of the best one, Triton's class texts to the best class; leave others as they are."""
    if output.dtype == object:
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in output.reshape(-1)]
        classes = [_CLASS.fullmatch(text) for text in texts]
        if output.ndim and output.size and all(classes):
            return np.array([match[1] for match in classes if match], object).reshape(output.shape)[..., 0]
        return np.array(texts, object).reshape(output.shape)
    if output.ndim > 1 and output.shape[-1] > 1 and np.issubdtype(output.dtype, np.floating):
        return np.asarray(output.argmax(-1))
    return output


def renamed(reply: Reply, before: str, after: str) -> Reply:
    """Replace the model's name in the JSON part of a reply; a compressed one stays as it is."""
    if "Content-Encoding" in reply.headers:
        return reply
    length = int(reply.headers.get(LENGTH, len(reply.body)))
    head = reply.body[:length].replace(f'"model_name":"{before}"'.encode(), f'"model_name":"{after}"'.encode(), 1)
    headers = {**reply.headers, **({LENGTH: str(len(head))} if LENGTH in reply.headers else {})}
    return Reply(reply.status, headers, head + reply.body[length:], reply.seconds)
