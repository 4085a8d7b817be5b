"""`--deep`: load TorchScript files with torch and call them on the CPU at several batch sizes.

A traced graph can hard-code the batch size that it was traced with. Nothing in the file says so, and Triton notices
only when the first real batch arrives. A file that could not be called gets a finding too: unknown is not the same as
fine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tools.backends.pytorch.binding import BindingError
from tools.check.finding import Finding, Place, Rule
from tools.check.layout import file_name
from tools.check.served import FILES, Model

if TYPE_CHECKING:
    from tools.check.calls import Callable, CallError

FAILS = Rule(
    "torchscript-fails", "A TorchScript file fails, or its output does not match its config (--deep)", level="error"
)
BATCH = Rule(
    "torchscript-batch",
    "A TorchScript file works for one row and fails on batches: its graph hard-codes a size (--deep)",
    level="error",
)
NOT_CALLED = Rule(
    "torchscript-not-called", "A TorchScript file was not called, so nothing is known about it (--deep)", level="info"
)
DEVICE = Rule(
    "torchscript-device",
    "A TorchScript file puts tensors on another device than that of its instances: every request fails (--deep)",
    level="error",
)
RULES = (FAILS, BATCH, NOT_CALLED, DEVICE)


def check(model: Model) -> Iterator[Finding]:
    """Call the newest version of a model of the pytorch backend whose config is valid."""
    if model.config.backend != "pytorch" or not model.wanted:
        return
    file = model.folder / str(model.wanted[-1]) / file_name(model)
    if model.config.platform != FILES["pytorch"][1]:
        found, remedy = f"not called, because it is of platform {model.config.platform}", "call it on a server"
        yield NOT_CALLED.at(Place(file), found=found, expected="TorchScript", remedy=remedy)
    elif file.is_file():
        yield from _check_file(model, file)


def _check_file(model: Model, file: Path) -> Iterator[Finding]:
    from tools import placement, torchscript
    from tools.check.calls import Callable
    from tools.export.agreement import last_line

    try:
        called = Callable(model.config, torchscript.load(file))
        for found in placement.misplaced(called.module, *placement.kinds(model.config)):
            expected = "tensors on the device of the instance"
            yield DEVICE.at(Place(file), found=found.what, expected=expected, remedy=found.REMEDY)
        yield from _check_calls(called, model.config.max_batch_size, file)
    except BindingError:
        return  # Reported without --deep.
    except RuntimeError as error:
        reason = f"torch cannot load it: {last_line(error)}"
        remedy = "save it with the server's release of torch, without operators of other libraries"
        yield NOT_CALLED.at(
            Place(file), found=f"not called, because {reason}", expected="a file to call", remedy=remedy
        )


def _check_calls(called: "Callable", largest: int, file: Path) -> Iterator[Finding]:
    from tools.check.calls import CallError
    from tools.export.proof import batch_sizes

    batch = min(largest, 1)
    try:
        size, returned = called.first_answer(batch)
    except CallError as error:
        yield _unanswered(called, error, file)
        return
    for problem in called.problems(returned, batch):
        yield FAILS.at(
            Place(file), found=problem, expected="an output as configured", remedy="correct the config or the model"
        )
        return
    for batch in batch_sizes(largest)[1:]:
        try:
            problems = list(called.problems(called.first_answer(batch, [size])[1], batch))
        except CallError as error:
            problems = [str(error)]
        if problems:
            remedy = "trace it with a variable batch dimension, or script it"
            yield BATCH.at(Place(file), found=problems[0], expected="outputs that match the config", remedy=remedy)
            return


def _unanswered(called: "Callable", error: "CallError", file: Path) -> Finding:
    from tools.check.calls import SIZES

    if not called.is_open:
        return FAILS.at(
            Place(file),
            found=str(error),
            expected="an answer to made-up input",
            remedy="correct the config or the model",
        )
    return NOT_CALLED.at(
        Place(file),
        found=f"not called, because {error}",
        expected=f"an answer with {', '.join(map(str, SIZES))} for -1, one of them",
        remedy="add model_warmup with dims that work, and --deep takes them",
    )
