"""Serves the `Step` in step.py beside this file: Triton's Python backend loads it as model.py."""

from __future__ import annotations

import os
import sys
from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance, in a process of its own (Triton's name for this class is fixed)."""

    def initialize(self, args: dict[str, str]) -> None:
        """Make the step of this version."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        sys.path.insert(0, folder)
        import step  # type: ignore[import-not-found]  # lies beside this file once it is published

        self.step = step.Step(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself: a broken one harms no other."""
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        """One request's outputs; what the step refuses is the caller's mistake, anything else ours."""
        try:
            outputs = self.step.run({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        except ValueError as error:
            return refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # Whatever the step raises is an answer to the caller, not our end.
            return refusal(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def refusal(message: str, code: int) -> Any:
    """An answer that is an error."""
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
