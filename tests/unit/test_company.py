"""Rows that share a batch: a network in which they change each other's answers is found out, others are left alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tests.unit.rows import INDEPENDENT, MIXING, batch_statistics
from tools import torchscript
from tools.contract import Value
from tools.export.agreement import BATCH_TOLERANCE, ProofError
from tools.export.company import prove_rows_independent
from tools.export.samples import Samples
from tools.new import example_inputs
from tools.new.trial import Effort, Observed, observe

pytestmark = pytest.mark.usefixtures("one_thread")
# The second is torch's, of a normalization that needs other rows.
REASON = "a row's answer depends on its batch|Expected more than 1 value per channel"
Case = tuple[Callable[..., Any], str]


def trial(function: Callable[..., Any], inputs: str, batched: bool | None = None) -> Observed:
    """Try a network whose `forward` is the function, as `tools.new` does."""
    network = type(function.__name__, (nn.Module,), {"forward": staticmethod(function)})()
    wanted = example_inputs.parse(inputs, network)
    return observe(network, wanted.specs, batched, Effort(Samples(ranges=wanted.ranges)))


def prove(function: Callable[..., Any], inputs: str) -> None:
    """Prove the function as TorchScript, as an export does."""
    network = type(function.__name__, (nn.Module,), {"forward": staticmethod(function)})()
    wanted = example_inputs.parse(inputs, network)
    with torchscript.quiet():
        script: Any = torch.jit.script(function)

    def answer(values: Sequence[Value]) -> Sequence[Value]:
        try:
            return torchscript.outputs(script, *values)
        except Exception as error:
            raise ProofError(str(error)) from error

    rows = Samples(ranges=wanted.ranges).unlike(wanted.specs)
    prove_rows_independent(answer, rows, ["first", "second"], BATCH_TOLERANCE)


@pytest.mark.parametrize("case", MIXING.values(), ids=MIXING)
def test_a_network_whose_rows_depend_on_each_other_is_served_without_batches(case: Case) -> None:
    if case[0] is not batch_statistics:  # That one is of no use without a batch.
        observed = trial(*case)
        assert not observed.batched
        assert "a row's answer depends on its batch" in observed.why_unbatched
    with pytest.raises(ProofError, match=REASON):
        trial(*case, batched=True)


@pytest.mark.parametrize("case", MIXING.values(), ids=MIXING)
def test_a_file_whose_rows_depend_on_each_other_is_refused(case: Case) -> None:
    with pytest.raises(ProofError, match=REASON):
        prove(*case)


@pytest.mark.parametrize("case", INDEPENDENT.values(), ids=INDEPENDENT)
def test_a_network_of_independent_rows_is_served_in_batches(case: Case) -> None:
    assert trial(*case).batched
    prove(*case)
