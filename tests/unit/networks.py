"""Networks as users bring them to `tools.new`: in their own file, imported by path."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tools import torchscript


class Towers(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(4, 3)
        self.item = nn.Linear(6, 3)

    def forward(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        one, other = self.user(user.squeeze(-1)), self.item(item)
        return (one * other).sum(1, keepdim=True), one


class Named(Towers):
    """Takes users without a dimension; returns a dict with a BOOL and one scalar per row."""

    def forward(self, user: Tensor, item: Tensor) -> dict[str, Tensor]:
        one, other = self.user(user), self.item(item)
        return {"score": (one * other).sum(1), "known": user.unsqueeze(1) > 0, "embedding": one}


class Moments(NamedTuple):
    mean: Tensor
    spread: Tensor


class Statistics(nn.Module):
    """Returns a NamedTuple."""

    def forward(self, x: Tensor) -> Moments:
        return Moments(x.mean(1, keepdim=True), x.std(1, keepdim=True))


class Gate(nn.Module):
    """BOOL in and out."""

    def forward(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        return x * keep, ~keep


class FromDict(nn.Module):
    """One dict of tensors."""

    def forward(self, named: dict[str, Tensor]) -> Tensor:
        return named["left"] + 10 * named["right"]


class Texts(nn.Module):
    """STRING in and out."""

    def forward(self, texts: list[str]) -> tuple[list[str], Tensor]:
        return [text + "!" for text in texts], torch.tensor([len(text) for text in texts])


class Ranks(nn.Module):
    """Rows depend on each other: no batches."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(0)


class Optional(nn.Module):
    """An optional argument, and a nested output."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(3, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        steps, _ = self.memory(x)
        if mask is not None:
            steps = steps * mask
        return steps, (steps.sum(1), steps[:, 0])


class Recurrent(nn.LSTM):
    """Returns states with the batch as second dimension."""

    def __init__(self) -> None:
        super().__init__(3, 2, batch_first=True)


class Total(nn.Module):
    """A single number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class Convolution(nn.Module):
    """Takes any height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)


class Sized(nn.Module):
    """Takes constructor arguments."""

    def __init__(self, classes: int, *, width: int = 5) -> None:
        super().__init__()
        self.layer = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Lambda(Sized):
    """Cannot be scripted."""

    def forward(self, x: Tensor) -> Tensor:
        double: Callable[[Tensor], Tensor] = lambda y: 2 * y  # noqa: E731
        return double(self.layer(x))


class Baked(Sized):
    """Cannot be scripted, and keeps its batch size when it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        double: Callable[[Tensor], Tensor] = lambda y: 2 * y  # noqa: E731
        return double(self.layer(x)).reshape(len(x.tolist()), -1)


class Branching(Sized):
    """Cannot be scripted; branches on values."""

    def forward(self, x: Tensor) -> Tensor:
        double: Callable[[Tensor], Tensor] = lambda y: 2 * y  # noqa: E731
        return double(self.layer(x)) if float(x.sum()) > 0 else self.layer(x)


class FixedBatch(Sized):
    """Takes exactly four rows."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.reshape(4, 5))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Counter(nn.Module):
    """Keeps something between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.count: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x + self.count


class AtStart(Sized):
    """Chooses its device when it is made."""

    def __init__(self) -> None:
        super().__init__(2)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.to(self.device))


class Brain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.bfloat16()


class Counting(nn.Module):
    def forward(self, x: Tensor) -> dict[str, int]:
        return {"count": len(x)}


class Filter(nn.Module):
    """As many outputs as there are positive inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


class Variadic(nn.Module):
    def forward(self, *x: Tensor) -> Tensor:
        return x[0]


class Constant(nn.Module):
    """Returns the same for every input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Kinds(nn.Module):
    """As wide as the largest kind in the batch."""

    def forward(self, kind: Tensor) -> Tensor:
        return nn.functional.one_hot(kind)


class FromOne(nn.Module):
    """Ids that start at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids - 1)


class Cautious(nn.Module):
    """Refuses a row of zeros, and with it those beside it."""

    def forward(self, x: Tensor) -> Tensor:
        if bool((x == 0).all(1).any()):
            raise ValueError("zeros")
        return x / x.norm(dim=1, keepdim=True)


class Bags(nn.Module):
    """Words of several texts in one row, and where each text starts."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(50, 3)

    def forward(self, words: Tensor, offsets: Tensor) -> Tensor:
        return self.table(words, offsets)


class Sound(nn.Module):
    """Needs 250 samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(1, 4, 250, stride=80)

    def forward(self, sound: Tensor) -> Tensor:
        return self.layer(sound.unsqueeze(1)).amax(2)


class Hourglass(nn.Module):
    """Takes multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        wide = self.layer(image)
        return wide + nn.functional.interpolate(nn.functional.max_pool2d(wide, 32), scale_factor=32.0)


class Exactly(nn.Module):
    """Takes one size, and names it when it refuses others."""

    def forward(self, sound: Tensor) -> Tensor:
        if sound.shape[1] != 3000:
            raise ValueError(f"expected a length of 3000, got {sound.shape[1]}")
        return sound[:, ::1000]


class Answer(OrderedDict[str, Tensor]):
    """As transformers' ModelOutput: a dict of what is not None."""


class Optionals(nn.Module):
    """Hugging Face's form: every argument defaults to None, and there may be others."""

    main_input_name = "input_ids"

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 3)
        self.config = Settings()

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **others: object
    ) -> Answer:
        found = self.table(input_ids)
        if attention_mask is not None:
            found = found * attention_mask.unsqueeze(2)
        answer = Answer(last=found, pooled=found.mean(1))
        return Answer(**answer, cache=object()) if self.config.use_cache else answer


class Settings:
    """As transformers' config."""

    def __init__(self) -> None:
        self.use_cache, self.vocab_size = True, 9

    def get_text_config(self) -> "Settings":
        return self


def compiled() -> nn.Module:
    """As torch.compile returns it, with a part that is wrapped once more."""
    with torchscript.quiet():  # What torch imports for it is deprecated.
        parts = torch.compile(nn.Linear(5, 4)), nn.DataParallel(nn.Linear(4, 2))
        network: nn.Module = torch.compile(nn.Sequential(*parts))
    return network


def compiled_in_place() -> nn.Module:
    """As a method of the network compiles it, and as one compiles a method."""
    network = Sized(2)
    with torchscript.quiet():
        network.compile()
        network.forward = torch.compile(network.forward)  # type: ignore[method-assign]
    return network


def parallel() -> nn.Module:
    """For several GPUs."""
    return nn.DataParallel(Sized(2))


def pooled(classes: int) -> nn.Module:
    """A function that returns a network."""
    return nn.Sequential(nn.Conv2d(3, classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def nothing() -> None:
    """A function that returns none."""


def failing() -> nn.Module:
    raise ValueError("no such size")


def half() -> nn.Module:
    """A network in FP16."""
    return Sized(2).half()


class OnGpu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cuda() + 1


class Several(nn.Module):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return xs[0]


class Scaled(nn.Module):
    def forward(self, x: Tensor, by: tuple[Tensor, float]) -> Tensor:
        return x * by[0] * by[1]


INSTANCE = Sized(2)
NUMBER = 3
