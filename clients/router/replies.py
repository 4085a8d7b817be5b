"""What a server answers, as a router sees it: whether two replies agree, and under which name a model answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import numpy as np
from tritonclient.http import InferResult

from clients import connection
from clients.contract import Array

LENGTH = "Inference-Header-Content-Length"
# Triton's classification extension: "score:index" or "score:index:label".
_CLASS = re.compile(rb"-?[0-9.e+-]+:(\d+)(:.*)?")
_MODEL_NAME = re.compile(rb'(?<="model_name":")[^"]*')


class Reply(Protocol):
    """A reply over either protocol."""

    @property
    def protocol(self) -> connection.Protocol:
        """The way that it came."""

    @property
    def good(self) -> bool:
        """Whether the request was answered."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    def first_output(self) -> Array:
        """The first output, [rows, …]; others are details. ValueError if the body is not Triton's."""


class Message(Reply, Protocol):
    """A reply that can be passed on."""

    def renamed(self, name: str) -> Self:
        """The same with another model's name."""


@dataclass(frozen=True)
class HttpReply:
    """A reply over HTTP: its status (0 if there was none), headers and body, and the seconds that it took."""

    protocol: ClassVar[connection.Protocol] = "http"
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the request was answered."""
        return self.status == 200

    def first_output(self) -> Array:
        """The first output."""
        length = self.headers.get(LENGTH)
        result = InferResult.from_response_body(
            self.body,
            header_length=int(length) if length else None,
            content_encoding=self.headers.get("Content-Encoding"),
        )
        array: Array = result.as_numpy(result.get_response()["outputs"][0]["name"])
        return array

    def renamed(self, name: str) -> "HttpReply":
        """The same with another model's name in its JSON part; a compressed one stays as it is."""
        if "Content-Encoding" in self.headers:
            return self
        length = int(self.headers.get(LENGTH, len(self.body)))
        head = _MODEL_NAME.sub(lambda _: name.encode(), self.body[:length], 1)
        headers = {**self.headers, LENGTH: str(len(head))} if LENGTH in self.headers else self.headers
        return replace(self, headers=headers, body=head + self.body[length:])


def agree(one: Reply, other: Reply) -> bool:
    """Whether two replies to one request give the same prediction for each row: the same class, number or text."""
    try:
        return bool(np.array_equal(predictions(one.first_output()), predictions(other.first_output())))
    except (ValueError, KeyError, IndexError, TypeError):
        return False  # What cannot be read says nothing.


def predictions(output: Array) -> Array:
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
