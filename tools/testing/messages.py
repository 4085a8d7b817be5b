"""Requests, responses and errors as a model.py has them under Triton's Python backend."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeVar

from tools.testing.tensors import Tensor, TritonModelException

Kind = TypeVar("Kind")
FINAL, RELEASE_ALL = 1, 1


class ErrorCode(IntEnum):
    """Triton's codes."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


class TritonError:
    """An error that goes to the caller."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = ErrorCode

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INTERNAL):
        self._message, self._code = _expect("TritonError", message, str), _expect("TritonError", code, ErrorCode)

    def message(self) -> str:
        return self._message

    def code(self) -> ErrorCode:
        return self._code


class InferenceResponse:
    """The outputs for one request, or an error."""

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None):
        self._tensors = _tensors("InferenceResponse", output_tensors, "Output tensor for inference response")
        self._error = None if error is None else _expect("InferenceResponse", error, TritonError)

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def prune(self, names: Iterable[str]) -> None:
        """Leave out what nobody asked for, as the backend does."""
        wanted = set(names)
        self._tensors[:] = [tensor for tensor in self._tensors if tensor.name() in wanted]


class Inbox:
    """The responses to one request, in the order in which the model gave them."""

    def __init__(self, is_decoupled: bool):
        self.is_decoupled = is_decoupled
        self.responses: list[InferenceResponse] = []
        self.failure: BaseException | None = None
        self.ended = threading.Event()
        self._lock = threading.Lock()

    def add(self, response: InferenceResponse | None, flags: int) -> None:
        """Take a response; TritonModelException where the backend would refuse it."""
        with self._lock:
            if not self.is_decoupled:
                self._check_only_one(response, flags)
            if self.ended.is_set():
                raise TritonModelException("Unable to send response. Response sender has been closed.")
            if response is not None:
                self.responses.append(response)
            if flags == FINAL:
                self.ended.set()

    def fail(self, error: BaseException) -> None:
        """Note what `execute` raised, for a request that is not answered yet."""
        with self._lock:
            if not self.ended.is_set():
                self.failure = error
                self.ended.set()

    def _check_only_one(self, response: InferenceResponse | None, flags: int) -> None:
        words = "Unable to send response. Non-decoupled model cannot send"
        if response is not None and self.responses:
            raise TritonModelException(f"{words} more than one response.")
        if response is None and flags == FINAL and not self.responses:
            raise TritonModelException(f"{words} complete final before sending a response.")


class InferenceResponseSender:
    """Sends responses to one request, also after `execute` has returned."""

    def __init__(self, inbox: Inbox | None, names: Iterable[str]):
        self._inbox, self._names = inbox, names

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        if response is not None:
            _expect("send", response, InferenceResponse)
        if flags not in (0, FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if self._inbox is None:
            raise TritonModelException(
                "Unable to send response. Response sender has no reference to the decoupled state of the model."
            )
        if response is not None:
            response.prune(self._names)
        self._inbox.add(response, flags)

    def is_cancelled(self) -> bool:
        return False  # Callers in this process wait.


class PreferredMemory:
    """Where a model wants the outputs of another one; here, all are in the same place."""

    def __init__(self, preferred_memory_type: int, preferred_device_id: int = 0):
        self._place = preferred_memory_type, preferred_device_id


class InferenceTrace:
    """The trace of a request; none is taken here."""

    def get_context(self) -> str | None:
        return None


class InferenceRequest:
    """A request from a caller, or one that the model makes of another model.

    Each model has a class of its own, with its own `ask`.
    """

    # What answers requests of this model to others.
    ask: Callable[["InferenceRequest", bool], list[InferenceResponse]]

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] | None = None,
        requested_output_names: Sequence[str] | None = None,
        model_name: str | None = None,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Mapping[str, str | int | bool] | None = None,
        *,
        inbox: Inbox | None = None,
    ):
        if not isinstance(correlation_id, int | str):
            raise TritonModelException("Correlation ID must be integer or string")
        where = "InferenceRequest"
        self.model_name, self.model_version = _expect(where, model_name, str), _expect(where, model_version, int)
        self._id, self._correlation_id = _expect(where, request_id, str), correlation_id
        self._inputs = _tensors(
            where, inputs, f"Input tensor for request with id '{request_id}' and model name '{model_name}'"
        )
        self._names = {_expect(where, name, str) for name in _listed(where, requested_output_names)}
        self._flags, self._timeout = _expect(where, flags, int), _expect(where, timeout, int)
        self._parameters = json_of(parameters or {})
        self._sender = InferenceResponseSender(inbox, self._names)
        self.answers = inbox or Inbox(False)

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def request_id(self) -> str:
        return self._id

    def correlation_id(self) -> int | str:
        return self._correlation_id

    def flags(self) -> int:
        return self._flags

    def set_flags(self, flags: int) -> None:
        self._flags = flags

    def timeout(self) -> int:
        return self._timeout

    def parameters(self) -> str:
        return self._parameters

    def trace(self) -> InferenceTrace:
        return InferenceTrace()

    def requested_output_names(self) -> set[str]:
        return self._names

    def get_response_sender(self) -> InferenceResponseSender:
        return self._sender

    def is_cancelled(self) -> bool:
        return False  # Callers in this process wait.

    def set_release_flags(self, flags: int) -> None:
        if flags != RELEASE_ALL:
            raise TritonModelException("only Triton's scheduler reschedules a request; run the test with --triton-real")

    def exec(self, decoupled: bool = False) -> Any:
        responses = type(self).ask(self, decoupled)
        return ResponseIterator(responses) if decoupled else responses[0]

    def async_exec(self, decoupled: bool = False) -> Any:
        return asyncio.get_running_loop().run_in_executor(None, self.exec, decoupled)


class ResponseIterator:
    """The responses of a decoupled model; may be iterated again."""

    def __init__(self, responses: Sequence[InferenceResponse]):
        self._responses, self._next = responses, iter(responses)

    def __iter__(self) -> Iterator[InferenceResponse]:
        self._next = iter(self._responses)
        return self._next

    def __next__(self) -> InferenceResponse:
        return next(self._next)

    def cancel(self) -> None:
        """Nothing is left to cancel."""


def json_of(parameters: Mapping[str, str | int | bool]) -> str:
    """Parameters as a model reads them."""
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(key)}")
        if not isinstance(value, str | int):
            found = f"found type {type(value)}"
            raise TritonModelException(f"Expect parameters values to have type bool/int/str, {found}")
    return json.dumps(dict(parameters), separators=(",", ":"))


def _expect(where: str, value: Any, kind: type[Kind]) -> Kind:
    if not isinstance(value, kind):
        raise TypeError(f"{where}(): incompatible function arguments: expected {kind.__name__}, got {value!r:.80}")
    return value


def _listed(where: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise TypeError(f"{where}(): incompatible function arguments: expected a list, got {values!r:.80}")
    return list(values)


def _tensors(where: str, values: Any, what: str) -> list[Tensor]:
    if any(value is None for value in _listed(where, values)):
        raise TritonModelException(f"{what} should not be empty.")
    return [_expect(where, value, Tensor) for value in values]
