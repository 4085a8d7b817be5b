"""A model.py under test: the same calls, whether this process runs it or the real server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clients.contract import Array, Contract, Inputs
from clients.errors import ClientError, ServerFailed
from tools.testing.program import Arrays


@dataclass(frozen=True)
class Call:
    """One request, as a client can send it."""

    inputs: Arrays
    outputs: tuple[str, ...]
    request_id: str = ""
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False
    timeout: int | None = None  # microseconds, for the model to read
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The responses to one request in their order, and the error that ended them."""

    responses: Sequence[dict[str, Array]]
    error: ClientError | None = None


@dataclass(frozen=True)
class PythonModel:
    """A loaded model.py.

    Attributes:
        contract: its inputs and outputs.
        run: sends requests at once: in this process, as one batch.
    """

    contract: Contract
    run: Callable[[Sequence[Call]], list[Outcome]]

    def infer(self, inputs: Inputs, outputs: Sequence[str] | None = None, **options: Any) -> dict[str, Array]:
        """Send one request, and return the arrays of its one answer.

        Args:
            inputs: arrays by name, or the array of a model with one input; batch first if it takes batches.
            outputs: names of the outputs to return (default: all).
            **options: `request_id`, `sequence_id`, `sequence_start`, `sequence_end`, `timeout`, `parameters`.

        Raises:
            InvalidInput: the inputs do not fit the model's config.
            ClientError: the model refused, or failed.
        """
        __tracebackhide__ = True
        (response,) = self._expect_one(self.run([self._call(inputs, outputs, options)])[0])
        return response

    def infer_together(self, *inputs: Inputs) -> list[dict[str, Array]]:
        """Send several requests at once, as callers of a dynamic batcher do; their answers in order."""
        __tracebackhide__ = True
        return [self._expect_one(outcome)[0] for outcome in self.run([self._call(each, None, {}) for each in inputs])]

    def stream(self, inputs: Inputs, outputs: Sequence[str] | None = None, **options: Any) -> list[dict[str, Array]]:
        """Send one request to a decoupled model, and return all its answers; as `infer` otherwise."""
        __tracebackhide__ = True
        (outcome,) = self.run([self._call(inputs, outputs, options)])
        if outcome.error:
            raise outcome.error
        return list(outcome.responses)

    def _call(self, inputs: Inputs, outputs: Sequence[str] | None, options: Mapping[str, Any]) -> Call:
        named = self.contract.named(inputs)
        self.contract.check(named)
        return Call(named, tuple(outputs or (spec.name for spec in self.contract.outputs)), **options)

    def _expect_one(self, outcome: Outcome) -> Sequence[dict[str, Array]]:
        __tracebackhide__ = True
        if outcome.error:
            raise outcome.error
        if len(outcome.responses) != 1:
            count = len(outcome.responses)
            raise ServerFailed(f"{self.contract.model} gave {count} responses to one request; call stream instead")
        return outcome.responses
