"""Triton's HTTP answers as a router sees them: whether two of them agree, and under which name a model answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tritonclient.http import InferResult

from clients.contract import Array

LENGTH = "Inference-Header-Content-Length"
# Triton's classification extension: "score:index" or "score:index:label".
CLASS = re.compile(rb"-?[0-9.e+-]+:(\d+)(:.*)?")


@dataclass(frozen=True)
class Reply:
    """An answer: its status, headers and body, and the seconds that it took; status 0 for none at all."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the request was answered."""
        return self.status == 200


def first_output(reply: Reply) -> Array:
    """An answer's first output, [rows, …]: what answers the question; others are its details.

    Raises:
        ValueError: the body is none of Triton's.
    """
    length = reply.headers.get(LENGTH)
    result = InferResult.from_response_body(
        reply.body,
        header_length=int(length) if length else None,
        content_encoding=reply.headers.get("Content-Encoding"),
    )
    array: Array = result.as_numpy(result.get_response()["outputs"][0]["name"])
    return array


def agree(one: Reply, other: Reply) -> bool:
    """Whether two answers to the same request say the same of each row: the same class, number or text."""
    try:
        return bool(np.array_equal(said(first_output(one)), said(first_output(other))))
    except (ValueError, KeyError, IndexError, TypeError):
        return one.body == other.body


def said(output: Array) -> Array:
    """What an output says: of scores the best one's place, the best class by Triton's texts, else texts or numbers."""
    if output.dtype == object:
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in output.reshape(-1)]
        classes = [CLASS.fullmatch(text) for text in texts]
        if output.ndim and output.size and all(classes):
            return np.array([found[1] for found in classes if found], object).reshape(output.shape)[..., 0]
        return np.array(texts, object).reshape(output.shape)
    if output.ndim > 1 and output.shape[-1] > 1 and np.issubdtype(output.dtype, np.floating):
        return np.asarray(output.argmax(-1))
    return output


def renamed(reply: Reply, before: str, after: str) -> Reply:
    """An answer under another model's name, as its JSON part has it; a compressed one stays as it is."""
    if "Content-Encoding" in reply.headers:
        return reply
    length = int(reply.headers.get(LENGTH, len(reply.body)))
    head = reply.body[:length].replace(f'"model_name":"{before}"'.encode(), f'"model_name":"{after}"'.encode(), 1)
    headers = {**reply.headers, **({LENGTH: str(len(head))} if LENGTH in reply.headers else {})}
    return Reply(reply.status, headers, head + reply.body[length:], reply.seconds)
