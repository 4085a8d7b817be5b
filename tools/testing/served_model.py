"""Assertions about a served model: its answers, that rows of a batch do not mix, and that answers stay the same."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.client import Client
from clients.contract import Array, Contract, Inputs
from clients.errors import ClientError
from clients.golden import Case, Golden, complaint, difference, read, write
from tools.serve.probes import golden_of
from tools.testing.target import Target
from tools.verify.passes import Pass, Way, send

_CALLERS, _REPEATS = 16, 4


@dataclass(frozen=True)
class ServedModel:
    """One model of the server under test.

    Attributes:
        recorded: where its golden requests are: in `golden/`, beside the test.
        is_recording: whether answers are recorded, not compared.
    """

    name: str
    client: Client
    target: Target
    recorded: Path
    is_recording: bool

    @property
    def contract(self) -> Contract:
        """Its inputs and outputs."""
        return self.client.contract(self.name)

    def infer(self, inputs: Inputs, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Its answer, as `Client.infer` gives it."""
        __tracebackhide__ = True
        try:
            return self.client.infer(self.name, inputs, outputs)
        except ClientError as error:
            # How the client came to it tells a reader of the report nothing.
            raise error.with_traceback(None) from None

    def assert_close(self, inputs: Inputs, expected: Any, tolerance: float = 1e-5) -> None:
        """Fail unless the answer is as expected, in type and shape too.

        Args:
            inputs: arrays by name, or the array of a model with one input.
            expected: arrays or lists by output name, or those of a model with one output; what is not named is not
                compared.
            tolerance: absolute, and relative to the expected number.
        """
        __tracebackhide__ = True
        right = _expected(self.contract, expected)
        case = Case(self.contract.named(inputs), right)
        self._compare(case, tolerance, "")

    def assert_batches(self, inputs: Inputs, tolerance: float = 1e-4) -> float:
        """Fail unless each row gets the same answer alone, in a batch, and while others call at the same time.

        Args:
            inputs: two rows or more, first dimension first.
            tolerance: as for `assert_close`; kernels for one row and for many round differently.

        Returns:
            How many rows the server computed together, on average, while many called; 1.0 if it never batched.
        """
        __tracebackhide__ = True
        rows, contract = self.contract.named(inputs), self.contract
        count = len(next(iter(rows.values())))
        if not contract.batched or count < 2:
            reason = "max_batch_size is 0" if not contract.batched else f"expected two rows or more, got {count}"
            raise AssertionError(f"{self.name} cannot be tried in batches: {reason}")
        alone, together, crowd = (self._pass(way, rows, order) for way, order in self._ways(count))
        for other in (together, crowd):
            _compare_rows(self.name, alone, other, tolerance)
        return crowd.batch or 1.0

    def assert_golden(self, *inputs: Inputs, tolerance: float = 1e-4) -> None:
        """Fail unless the server answers these requests as it did when they were recorded with --triton-record.

        Without inputs, those that were recorded are sent, or those that the served version carries.
        """
        __tracebackhide__ = True
        cases = [self.contract.named(each) for each in inputs]
        if self.is_recording and cases:
            answered = tuple(Case(case, self.infer(case)) for case in cases)
            self.recorded.parent.mkdir(exist_ok=True)
            return write(self.recorded, Golden(tolerance, answered))
        # What the version carries has other inputs than these.
        golden = read(self.recorded) or (None if cases else self._carried())
        if golden is None:
            what = "" if cases else "give assert_golden inputs, and "
            raise AssertionError(f"{self.recorded} does not exist; {what}record it with --triton-record")
        if cases and not _are_same(cases, [case.inputs for case in golden.cases]):
            raise AssertionError(
                f"{self.recorded} was recorded with other inputs; record it again with --triton-record"
            )
        for number, case in enumerate(golden.cases):
            self._compare(case, golden.tolerance, f" to golden request {number}")

    def _compare(self, case: Case, tolerance: float, which: str) -> None:
        __tracebackhide__ = True
        answer = self.infer(case.inputs)
        if words := complaint(case, answer, tolerance):
            shown = "".join(f"\n  {name}: {answer.get(name)}, expected {right}" for name, right in case.outputs.items())
            raise AssertionError(f"{self.name}'s answer{which}: {words}{shown}")

    def _carried(self) -> Golden | None:
        # The requests that `tools.export` and `tools.new` put into a version.
        if self.target.repository is None:
            return None
        served = {name: max(map(int, self.client.contract(name).versions)) for name in self._with_members()}
        return golden_of(self.name, served, self.target.repository)

    def _with_members(self) -> tuple[str, ...]:
        return (self.name, *self.contract.members)

    def _ways(self, count: int) -> Iterator[tuple[Way, Array]]:
        # Each row alone; all in as few requests as the model takes; one row each from many callers, in any order.
        rows, protocol = np.arange(count), self.client.connection.protocol
        shuffled = np.random.default_rng(0).permutation(np.tile(rows, _REPEATS * max(_CALLERS // count, 1)))
        yield Way(protocol, 1, 1), rows
        yield Way(protocol, min(count, self.contract.max_batch_size), 1), rows[::-1].copy()
        yield Way(protocol, 1, _CALLERS), shuffled

    def _pass(self, way: Way, rows: Mapping[str, Array], order: Array) -> Pass:
        return asyncio.run(send(self.client.connection, self.name, way, rows, order))


def _compare_rows(name: str, alone: Pass, other: Pass, tolerance: float) -> None:
    __tracebackhide__ = True
    expected = {output: array[other.rows] for output, array in alone.outputs.items()}
    apart = difference(expected, other.outputs, tolerance)
    worst = int(apart.excess.argmax())
    if apart.excess[worst] > 1:
        output = apart.output[worst]
        raise AssertionError(
            f"{name}: row {other.rows[worst]} gets another answer over {other.way} than alone: {output} is "
            f"{other.outputs[output][worst]}, alone {expected[output][worst]}; the tolerance is {tolerance:g}"
        )


def _expected(contract: Contract, expected: Any) -> dict[str, Array]:
    if not isinstance(expected, Mapping):
        if len(contract.outputs) != 1:
            raise AssertionError(f"{contract.model} has {len(contract.outputs)} outputs; give what is expected by name")
        expected = {contract.outputs[0].name: expected}
    types = {spec.name: triton_to_np_dtype(spec.datatype) for spec in contract.outputs}
    if unknown := expected.keys() - types.keys():
        raise AssertionError(f"{contract.model} has no output {', '.join(unknown)}; it gives {', '.join(types)}")
    return {name: _typed(value, types[name]) for name, value in expected.items()}


def _typed(value: Any, dtype: Any) -> Array:
    array = np.asarray(value, object if dtype is np.object_ else None)
    if dtype is np.object_:
        texts = [text.encode() if isinstance(text, str) else text for text in array.ravel()]
        return np.array([*texts, None], object)[:-1].reshape(array.shape)
    return array.astype(dtype, casting="same_kind")


def _are_same(given: Sequence[Mapping[str, Array]], recorded: Sequence[Mapping[str, Array]]) -> bool:
    def flat(cases: Sequence[Mapping[str, Array]]) -> list[Any]:
        return [[(name, case[name].tolist()) for name in sorted(case)] for case in cases]

    return repr(flat(given)) == repr(flat(recorded))
