"""A model.py run by this process, with the rules of Triton's Python backend.

with in_process(read_program(Path("models/double/1/model.py"), None, {})) as model:
    model.infer({"X": np.ones((1, 4), np.float32)})
"""

import asyncio
import itertools
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from tritonclient.utils import InferenceServerException

from clients import failures
from clients.connection import Connection
from clients.contract import Array
from clients.errors import ClientError, DeadlineExceeded
from tools.testing.backend_utils import Models, importable, utils_for
from tools.testing.messages import (
    FINAL,
    ErrorCode,
    Inbox,
    InferenceRequest,
    InferenceResponse,
    TritonError,
)
from tools.testing.plays import played
from tools.testing.program import Program, arguments, config_from, config_json, contract_of, is_decoupled
from tools.testing.python_model import Call, Outcome, PythonModel
from tools.testing.tensors import Tensor, TritonModelException, as_sent

_STARTS, _ENDS = 1, 2  # a sequence
# gRPC's names where they differ.
_STATUS = {ErrorCode.INVALID_ARG: "INVALID_ARGUMENT", ErrorCode.UNSUPPORTED: "UNIMPLEMENTED"}
_numbers = itertools.count()
_log = logging.getLogger("triton")


@contextmanager
def in_process(program: Program, timeout_s: float) -> Iterator[PythonModel]:
    """Load a model, and finalize it at the end of the block.

    Raises:
        ClientError: it does not load.
    """
    runtime = _Runtime(program, timeout_s)
    utils = utils_for(program.file.parent, runtime.models, runtime.ask)
    with importable(utils, [str(program.file.parent), str(program.folder)], program.folder):
        runtime.load(utils)
        try:
            yield PythonModel(runtime.contract, runtime.run)
        finally:
            runtime.finalize()


class _Misuse(Exception):
    """What the backend itself says of a model, without Python's name of an exception before it."""


class _Runtime:
    """One instance of a model."""

    def __init__(self, program: Program, timeout_s: float):
        self._program, self._timeout_s = program, timeout_s
        self.models = Models({program.name, *program.plays})
        self._is_serving = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def load(self, utils: Any) -> None:
        """Import the file, complete the config, and initialize the model."""
        try:
            kind = _imported(self._program.file).TritonPythonModel
            config = config_json(self._program.config)
            if hasattr(kind, "auto_complete_config"):
                config = self._completed(kind, utils, config)
            self._model = kind()
            if hasattr(self._model, "initialize"):
                self._model.initialize(arguments(self._program, config))
        except (Exception, SystemExit) as error:
            # The name of the module is our affair; Triton's is that of the version.
            words = re.sub(r"_triton_model_\d+", self._program.file.parent.name, _words(error))
            raise _refusal(f"load of {self._program.name}", words, "StatusCode.INVALID_ARGUMENT") from error
        self.contract = contract_of(config)
        self._is_decoupled = is_decoupled(config_from(config))
        self._is_serving = True

    def _completed(self, kind: Any, utils: Any, config: dict[str, Any]) -> dict[str, Any]:
        completed = kind.auto_complete_config(utils.ModelConfig(json.dumps(config)))
        if not isinstance(completed, utils.ModelConfig):
            raise _Misuse(
                f"auto_complete_config function in model '{self._program.name}' must return a valid pb.ModelConfig "
                "object."
            )
        document: dict[str, Any] = completed.as_dict()
        return document

    def finalize(self) -> None:
        """Let the model end; what it raises is only logged, as by the backend."""
        self._is_serving = False
        try:
            if hasattr(self._model, "finalize"):
                self._model.finalize()
        except Exception:
            _log.exception("finalize of %s failed", self._program.name)
        if self._loop:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def ask(self, request: InferenceRequest, wants_several: bool) -> list[InferenceResponse]:
        """Answer the model's request to another model by the test's function."""
        if not self._is_serving:
            raise TritonModelException("BLS is only supported during the 'execute' function.")
        try:
            return played(self._program, self.models, request, wants_several)
        except Exception as error:
            return [InferenceResponse([], TritonError(str(error)))]

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Execute a batch of requests, and wait until each is answered."""
        deadline = time.monotonic() + self._timeout_s
        inboxes = [Inbox(self._is_decoupled) for _ in calls]
        self._execute([_request(call, inbox) for call, inbox in zip(calls, inboxes, strict=True)])
        return [self._outcome(inbox, deadline) for inbox in inboxes]

    def _execute(self, requests: list[InferenceRequest]) -> None:
        try:
            self._accept(requests, self._returned(requests))
        except (Exception, SystemExit) as error:
            for request in requests:
                request.answers.fail(error)

    def _returned(self, requests: list[InferenceRequest]) -> Any:
        if not hasattr(self._model, "execute"):
            raise _Misuse(f"Python model {self._program.file} does not implement `execute` method.")
        returned = self._model.execute(list(requests))
        if not asyncio.iscoroutine(returned):
            return returned
        future = asyncio.run_coroutine_threadsafe(returned, self._running_loop())
        if not self._is_decoupled:
            return future.result(self._timeout_s)
        future.add_done_callback(lambda done: _log.error("%s", done.exception()) if done.exception() else None)
        return None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()
        return self._loop

    def _accept(self, requests: Sequence[InferenceRequest], returned: Any) -> None:
        if returned is None:  # Senders answer.
            return
        if self._is_decoupled:
            raise _Misuse(
                f"Python model '{self._program.name}_0_0' is using the decoupled mode and the execute function must "
                "return None."
            )
        if not isinstance(returned, list):
            raise _Misuse(f"Expected a list in the execute return, found type '{type(returned)}'.")
        if len(returned) != len(requests):
            raise _Misuse(
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) size is:{len(returned)}"
            )
        answered = [pair for pair in zip(requests, returned, strict=True) if pair[1] is not None]
        for _, response in answered:
            _check(response)
        for request, response in answered:
            response.prune(request.requested_output_names())
            request.answers.add(response, FINAL)

    def _outcome(self, inbox: Inbox, deadline: float) -> Outcome:
        what = f"inference of {self._program.name}"
        if not inbox.ended.wait(max(deadline - time.monotonic(), 0)):
            missing = "the flag of the final response" if self._is_decoupled else "no response"
            missing = f"{missing} within {self._timeout_s:g} s"
            return Outcome((), DeadlineExceeded(f"{what} in process: {missing}; raise timeout_s if it is slow"))
        arrays = list[dict[str, Array]]()
        for response in inbox.responses:
            if error := response.error():
                # Errors of a stream reach a client without their codes.
                status = f"StatusCode.{_STATUS.get(error.code(), error.code().name)}"
                return Outcome(arrays, _refusal(what, error.message(), None if self._is_decoupled else status))
            arrays.append({tensor.name(): as_sent(tensor) for tensor in response.output_tensors()})
        if inbox.failure is None:
            return Outcome(arrays)
        words = f"Failed to process the request(s) for model '{self._program.name}_0_0', message: "
        refusal = _refusal(what, words + _words(inbox.failure), "StatusCode.INTERNAL")
        if arrays and not self._is_decoupled:
            # A response was sent, and an error follows: a caller that expects one answer gets neither.
            refusal = _refusal(what, f"expected a single response, got {len(arrays) + 1}", "StatusCode.INTERNAL")
            arrays = []
        refusal.__cause__ = inbox.failure
        return Outcome(arrays, refusal)


def _imported(file: Path) -> ModuleType:
    # Under a name of its own, in a package of its own: the file may import its neighbours either way.
    package = ModuleType(f"_triton_model_{next(_numbers)}")
    package.__path__, package.__file__ = [str(file.parent)], str(file.parent / "__init__.py")
    spec = spec_from_file_location(f"{package.__name__}.{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules |= {package.__name__: package, spec.name: module}
    spec.loader.exec_module(module)
    return module


def _request(call: Call, inbox: Inbox) -> InferenceRequest:
    return InferenceRequest(
        request_id=call.request_id,
        correlation_id=call.sequence_id,
        inputs=[Tensor(name, as_sent(Tensor(name, array))) for name, array in call.inputs.items()],
        requested_output_names=call.outputs,
        model_name="",
        flags=_STARTS * call.sequence_start + _ENDS * call.sequence_end,
        timeout=call.timeout or 0,
        parameters=call.parameters,
        inbox=inbox,
    )


def _check(response: Any) -> None:
    if not isinstance(response, InferenceResponse):
        raise _Misuse(
            "Expected an 'InferenceResponse' object in the execute function return list, found type "
            f"'{type(response)}'."
        )


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, _Misuse) else f"{type(error).__name__}: {error}"


def _refusal(what: str, reason: str, status: str | None) -> ClientError:
    # The kind of error that a client would raise.
    refused = failures.translate(InferenceServerException(reason, status), Connection("grpc", "localhost:1"), what)
    return type(refused)(f"{what} in process: {failures.without_trace(reason)}")
