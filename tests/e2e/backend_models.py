"""Small TorchScript models that each exercise one feature of the pytorch backend, and a repository of them."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Model:
    """The content of a model's folder.

    Attributes:
        network: the module in `model.pt`; None leaves the version folder empty.
        config: the text of config.pbtxt, without name, backend and instance group.
        filename: of the TorchScript file.
    """

    network: nn.Module | None
    config: str
    filename: str = "model.pt"


def write(repository: Path, models: Mapping[str, Model]) -> Path:
    """Add models to a repository, as version 1."""
    for name, model in models.items():
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        own = f'name: "{name}"\nbackend: "pytorch"\ninstance_group {{ kind: KIND_CPU }}\n'
        (repository / name / "config.pbtxt").write_text(own + model.config)
        if model.network is not None:
            save(model.network, folder / model.filename)
    return repository


def save(network: nn.Module, path: Path) -> None:
    """Script and save, neither frozen nor folded: some of these depend on the server's settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), str(path))


def inputs(*tensors: str, dims: str = "2") -> str:
    """Lines of a config for inputs given as `NAME:TYPE` or, for FP32, `NAME`."""
    return "".join(lines("input", tensor, dims) for tensor in tensors)


def outputs(*tensors: str, dims: str = "2") -> str:
    """The same for outputs."""
    return "".join(lines("output", tensor, dims) for tensor in tensors)


def lines(role: str, tensor: str, dims: str) -> str:
    """One input or output."""
    name, _, dtype = tensor.partition(":")
    return f'{role} {{ name: "{name}" data_type: TYPE_{dtype or "FP32"} dims: [ {dims} ] }}\n'


def parameter(key: str, value: str) -> str:
    """One parameter."""
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


class Weighted(nn.Module):
    """Two arguments and two outputs that cannot be swapped unnoticed."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a + 10 * b, a - b


class FromDict(nn.Module):
    """One Dict(str, Tensor) argument."""

    def forward(self, named: dict[str, Tensor]) -> Tensor:
        return named["left"] + 10 * named["right"]


class Strings(nn.Module):
    """Strings in; strings and their lengths out."""

    def forward(self, texts: list[str]) -> tuple[list[str], Tensor]:
        return [text + "!" for text in texts], torch.tensor([len(text) for text in texts])


class Shouted(nn.Module):
    """One string per row in, one out."""

    def forward(self, texts: list[str]) -> list[str]:
        return [text + "!" for text in texts]


class Imaginary(nn.Module):
    """The imaginary part of a conjugate, whose change of sign torch leaves to whoever reads the memory."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(x, x).conj().imag


class Twins(nn.Module):
    """Every dtype in and out, in reverse order, so that none is mistaken for another."""

    def forward(
        self, b: Tensor, u8: Tensor, i8: Tensor, i16: Tensor, i32: Tensor, i64: Tensor, f16: Tensor, f32: Tensor,
        f64: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        return f64 + 1, f32 + 1, f16 + 1, i64 + 1, i32 + 1, i16 + 1, i8 + 1, u8 + 1, ~b


class BatchSize(nn.Module):
    """The input doubled, and beside each row how many rows `forward` saw with it."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, torch.full_like(x, x.size(0))


class Moody(nn.Module):
    """Succeeds or fails as the first number of its input says."""

    def forward(self, x: Tensor) -> Tensor:
        mood = int(x[0, 0])
        if mood == 1:
            raise ValueError("no such mood")
        if mood == 2:
            return x.double()
        if mood == 3:
            return x.sum(0, keepdim=True)
        if mood == 4:
            return x.sum()
        if mood == 5:
            return torch.stack([x[:, 0], x[:, 1]]).t()
        return x


class OneOutput(nn.Module):
    """A tensor, not a tuple."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Process(nn.Module):
    """Returns whether tensors are inference tensors, after work that is large enough for all threads."""

    def forward(self, x: Tensor) -> Tensor:
        busy = torch.ones(1 << 20) * 2
        return torch.full_like(x, int(busy.is_inference()))


class Learning(nn.Module):
    """A model that turns gradients on for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        return self.weight * x


class Square(nn.Module):
    """Takes and returns 2x2 matrices where the config declares four numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class WithControl(nn.Module):
    """Returns the input and whether its sequence has just begun."""

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        return torch.cat([x, start.to(x.dtype)], 1)


class RunningSum(nn.Module):
    """The sum of a sequence so far, kept by the server as implicit state."""

    def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        return x + total, x + total


BATCHES = "max_batch_size: 8\n"
ALONE = "max_batch_size: 0\n"
DTYPES = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
START = 'control_input { name: "START__0" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }'

STATE = (
    'state { input_name: "TOTAL__1" output_name: "TOTAL_OUT__1" data_type: TYPE_FP32 dims: [ 1 ] '
    'initial_state { data_type: TYPE_FP32 dims: [ 1 ] zero_data: true name: "zero" } }'
)
# The Python-based backend cannot keep the state of a sequence.
STATEFUL = {
    "running_sum": Model(
        RunningSum(),
        BATCHES
        + inputs("INPUT__0", dims="1")
        + outputs("OUTPUT__0", dims="1")
        + f"sequence_batching {{ oldest {{ max_candidate_sequences: 8 }} {STATE} }}\n",
    ),
}

# Those with a queue delay are sent eight rows together, for which nothing is waited.
GOOD = {
    "by_argument": Model(Weighted(), BATCHES + inputs("b", "a") + outputs("OUTPUT__1", "OUTPUT__0")),
    "by_index": Model(Weighted(), BATCHES + inputs("A__1", "B__0") + outputs("OUTPUT__1")),
    "in_order": Model(Weighted(), BATCHES + inputs("second", "first") + outputs("sum", "difference")),
    "from_dict": Model(FromDict(), BATCHES + inputs("right", "left") + outputs("OUTPUT__0")),
    "strings": Model(
        Strings(),
        ALONE + inputs("TEXT:STRING", dims="-1") + outputs("LENGTH__1:INT64", "TEXT__0:STRING", dims="-1"),
    ),
    "string_rows": Model(
        Shouted(),
        BATCHES
        + 'input { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } }\n'
        + 'output { name: "SHOUTED" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } }\n'
        + "dynamic_batching { max_queue_delay_microseconds: 5000000 preferred_batch_size: 8 }\n",
    ),
    "imaginary": Model(Imaginary(), BATCHES + inputs("x", dims="1") + outputs("y", dims="1")),
    "dtypes": Model(
        Twins(),
        BATCHES
        + inputs(*(f"IN__{index}:{dtype}" for index, dtype in enumerate(DTYPES)))
        + outputs(*(f"OUT__{8 - index}:{dtype}" for index, dtype in enumerate(DTYPES))),
    ),
    "batch_size": Model(
        BatchSize(),
        BATCHES
        + inputs("INPUT__0")
        + outputs("OUTPUT__0", "OUTPUT__1")
        + "dynamic_batching { max_queue_delay_microseconds: 5000000 preferred_batch_size: 8 }\n",
    ),
    "moody": Model(Moody(), BATCHES + inputs("INPUT__0") + outputs("OUTPUT__0") + "dynamic_batching {}\n"),
    "short": Model(OneOutput(), BATCHES + inputs("INPUT__0") + outputs("OUTPUT__0", "OUTPUT__1")),
    "process": Model(
        Process(),
        BATCHES
        + inputs("INPUT__0")
        + outputs("OUTPUT__0")
        + 'default_model_filename: "weights.ts"\n'
        + parameter("INTRA_OP_THREAD_COUNT", "3")
        + parameter("DISABLE_OPTIMIZED_EXECUTION", "on")
        + parameter("INFERENCE_MODE", "FALSE")
        + parameter("SOMETHING_ELSE", "is ignored"),
        filename="weights.ts",
    ),
    "one_thread": Model(
        Process(), BATCHES + inputs("INPUT__0") + outputs("OUTPUT__0") + parameter("INTRA_OP_THREAD_COUNT", "1")
    ),
    "usual_threads": Model(Process(), BATCHES + inputs("INPUT__0") + outputs("OUTPUT__0")),
    "learning": Model(Learning(), BATCHES + inputs("x") + outputs("y") + parameter("INFERENCE_MODE", "0")),
    "reshaped": Model(
        Square(),
        BATCHES
        + 'input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } }\n'
        + 'output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } }\n',
    ),
    "controlled": Model(
        WithControl(),
        BATCHES + inputs("INPUT__1", dims="1") + outputs("OUTPUT__0") + f"sequence_batching {{ {START} }}\n",
    ),
}
