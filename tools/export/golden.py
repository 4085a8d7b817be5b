"""Golden requests: a version's golden.npz, made from what its network answers in this process before it is published.

A supervisor sends them to the served model for as long as it runs, and `tools.verify` compares with them too.
`clients.golden` reads the file.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from clients import golden
from clients.contract import Array, Contract, TensorSpec
from clients.golden import Case, Golden, packed, unpacked
from tools.contract import array_of, example
from tools.export.agreement import BATCH_TOLERANCE
from tools.export.pipelines import Arrays, Run, picture_files
from tools.export.samples import Samples
from tools.repository import GOLDEN_FILE

_CASES = 3
# A case more is not worth a larger file: each is sent again and again.
_LARGEST_BYTES = 2_000_000
_PICTURE = (1, 24, 24, 3)


def write(folder: Path, run: Run, requests: Iterable[Arrays], tolerance: float) -> None:
    """Write the first requests and what a network answers to them; no file where it answers none of them.

    Rows that others' requests share a batch with are computed in another order, so the tolerance is at least export's
    for such rows.
    """
    cases, size = list[Case](), 0
    for inputs, outputs in islice(_answered(run, requests), _CASES):
        size += sum(array.nbytes for array in (*inputs.values(), *map(packed, outputs.values())))
        if cases and size > _LARGEST_BYTES:
            break
        cases.append(Case(inputs, outputs))
    if cases:
        golden.write(folder / GOLDEN_FILE, Golden(max(tolerance, BATCH_TOLERANCE), tuple(cases)))


def _answered(run: Run, requests: Iterable[Arrays]) -> Iterator[tuple[Arrays, Arrays]]:
    # Inputs as the file holds them, and the answers to them.
    for request in requests:
        inputs = {name: packed(array) for name, array in request.items()}
        try:
            yield inputs, run({name: unpacked(array) for name, array in inputs.items()})
        except Exception:  # Whatever a network's Python raises for what it does not take.
            continue


def chosen(count: int) -> list[int]:
    """Choose rows of a set, spread over it."""
    return sorted({row * (count - 1) // max(_CASES - 1, 1) for row in range(_CASES)})


def rows(inputs: Arrays) -> Iterator[Arrays]:
    """Each row of some inputs, [rows, …] by name, as a batch of one."""
    for row in range(len(next(iter(inputs.values())))):
        yield {name: array[row : row + 1] for name, array in inputs.items()}


def drawn(contract: Contract, samples: Samples) -> Iterator[Arrays]:
    """Draw inputs that a network was proven with."""
    shapes = samples.shaped(contract.inputs)
    for seed in range(1, 2 * _CASES):
        specs = shapes[seed % len(shapes)]
        values = samples.draw(list(specs.values()), int(contract.batched), seed)
        yield {name: array_of(value) for name, value in zip(specs, values, strict=True)}


def for_step(contract: Contract) -> Iterator[Arrays]:
    """Draw inputs for a Python step; texts are picture files, the only ones that steps here read."""

    def value(spec: TensorSpec, seed: int) -> Array:
        if spec.datatype == "STRING":
            return picture_files(np.random.default_rng(seed).integers(0, 256, _PICTURE, np.uint8))
        return array_of(example(spec, int(contract.batched), torch.Generator().manual_seed(seed)))

    for seed in range(_CASES):
        yield {spec.name: value(spec, seed) for spec in contract.inputs}
