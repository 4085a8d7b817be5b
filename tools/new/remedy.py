"""What to do about a network that cannot be called as the options say."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from clients.contract import TensorSpec
from tools.export.adapter import Adapter
from tools.export.agreement import ProofError
from tools.export.samples import Samples
from tools.new.example_inputs import written


def in_order(adapter: Adapter, specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Put inputs into the order of `forward`'s arguments."""
    return sorted(specs, key=lambda spec: adapter.call.names.index(spec.name))


def remedy(adapter: Adapter, specs: Sequence[TensorSpec], samples: Samples) -> str:
    """Say what to change where a network answers neither with nor without batches."""
    # Tracing makes networks that take batches of one size.
    for size in (1, 2, 4, 8, 16, 32, 64):
        rows = tuple(replace(spec, dims=(size, *spec.dims)) for spec in specs if -1 not in spec.dims)
        if len(rows) == len(specs) and not samples.given and _takes_only(adapter, rows, samples):
            return (
                f"It takes batches of {size} and no other: give that as a dimension, and serve it without batches: "
                f"--max-batch-size 0 --example-inputs '{','.join(map(written, rows))}'"
            )
    if guessed := [spec for spec in specs if samples.are_guessed(spec)]:
        return (
            f"{guessed[0].name} was tried with the values 0 and 1: if it takes others, give those that callers send: "
            f"--example-inputs '{written(guessed[0])}=1..9', or --examples FILE; else correct "
            "--example-inputs, or forward"
        )
    return "Correct --example-inputs, or forward"


def _takes_only(adapter: Adapter, rows: Sequence[TensorSpec], samples: Samples) -> bool:
    # Whether it takes a batch of this size, but not the same rows twice.
    values = samples.draw(in_order(adapter, rows), 0)
    try:
        adapter.answer(values)
    except ProofError:
        return False
    with suppress(ProofError):
        adapter.answer([torch.cat([value, value]) for value in values if isinstance(value, Tensor)])
        return False
    return True
