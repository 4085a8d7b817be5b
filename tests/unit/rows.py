"""Networks of one function each: those whose rows change each other's answers in some way, and those whose do not."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def pixels_branch(x: Tensor) -> Tensor:
    if bool(x.max() > 1.5):
        x = x / 255.0
    return x.mean(1)


def negative_branch(x: Tensor) -> Tensor:
    if bool((x < 0).any()):
        return x.abs()
    return x * 2


def all_positive_branch(x: Tensor) -> Tensor:
    if bool((x > 0).all()):
        return x.log()
    return x


def mean_branch(x: Tensor) -> Tensor:
    if float(x.mean()) > 0.4:
        return x - 0.5
    return x


def nan_branch(x: Tensor) -> Tensor:
    if bool(x.isnan().any()):
        return torch.nan_to_num(x) * 0
    return x


def outlier_branch(x: Tensor) -> Tensor:
    if bool(x.abs().max() > 1e5):
        return x.clamp(-1, 1)
    return x


def size_branch(x: Tensor) -> Tensor:
    if x.size(0) > 1:
        return x * 2
    return x


def norm_over_all(x: Tensor) -> Tensor:
    return x / (1 + x.norm())


def batch_statistics(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def softmax_of_rows(x: Tensor) -> Tensor:
    return x.softmax(0)


def running_total(x: Tensor) -> Tensor:
    return x.cumsum(0)


def sorted_rows(x: Tensor) -> Tensor:
    return x.sort(0).values


def reversed_rows(x: Tensor) -> Tensor:
    return x.flip(0)


def first_for_all(x: Tensor) -> Tensor:
    return x[:1].expand_as(x) + x * 0


def less_the_batch_mean(x: Tensor) -> Tensor:
    return x - x.mean(0)


def shared_scale(x: Tensor) -> Tensor:
    scale = x.abs().max() / 127 + 1e-9
    return (x / scale).round() * scale


def share_of_the_batch(x: Tensor) -> Tensor:
    return x / x.size(0)


def row_number(x: Tensor) -> Tensor:
    return x + torch.arange(x.size(0)).unsqueeze(1)


def attention_among_rows(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x.unsqueeze(0), x.unsqueeze(0), x.unsqueeze(0)).squeeze(0)


def repeated_values(x: Tensor) -> Tensor:
    return (x.unsqueeze(1) == x.unsqueeze(0)).all(2).sum(1, keepdim=True)


def widest_one_hot(kind: Tensor) -> Tensor:
    return F.one_hot(kind)


def padded_to_longest(length: Tensor) -> Tensor:
    return torch.arange(int(length.max()) + 1).unsqueeze(0) < length[:, :1]


FLOATS = "x:FP32[6]"
MIXING = {
    **{
        function.__name__: (function, FLOATS)
        for function in (
            pixels_branch, negative_branch, all_positive_branch, mean_branch, nan_branch, outlier_branch, size_branch,
            norm_over_all, batch_statistics, softmax_of_rows, running_total, sorted_rows, reversed_rows, first_for_all,
            less_the_batch_mean, shared_scale, share_of_the_batch, row_number, attention_among_rows, repeated_values,
        )
    },
    "widest_one_hot": (widest_one_hot, "kind:INT64[3]"),
    "padded_to_longest": (padded_to_longest, "length:INT64[1]=0..9"),
}  # fmt: skip


def scaled(x: Tensor) -> Tensor:
    return x / 255.0


def branch_per_row(x: Tensor) -> Tensor:
    return torch.where(x.amax(1, keepdim=True) > 1.5, x / 255.0, x)


def softmax_of_a_row(x: Tensor) -> Tensor:
    return x.softmax(1)


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, [6])


def row_norm(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


def running_total_of_a_row(x: Tensor) -> Tensor:
    return x.cumsum(1)


def sorted_in_a_row(x: Tensor) -> Tensor:
    return x.sort(1).values


def best_of_a_row(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.max(1)


def best_three(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.topk(3, 1)


def without_nan(x: Tensor) -> Tensor:
    return torch.nan_to_num(x)


def clamped(x: Tensor) -> Tensor:
    return x.clamp(-1, 1).exp()


def logarithm(x: Tensor) -> Tensor:
    return x.log()


def multiplied(x: Tensor) -> Tensor:
    weights = torch.arange(48, dtype=torch.float32).reshape(6, 8).sin()
    return (x @ weights).relu() @ weights.t()


def convolved(x: Tensor) -> Tensor:
    return F.conv1d(x.unsqueeze(1), torch.ones(4, 1, 3)).relu().flatten(1)


def frozen_statistics(x: Tensor) -> Tensor:
    return F.batch_norm(x, torch.arange(6.0), torch.arange(1.0, 7.0), training=False)


def attention_in_a_row(x: Tensor) -> Tensor:
    parts = x.reshape(-1, 3, 2)
    return F.scaled_dot_product_attention(parts, parts, parts).flatten(1)


def harmless_branch(x: Tensor) -> Tensor:
    # Looks at the whole batch and computes the same either way.
    if bool((x > 0).all()):
        return x.relu()
    return x.clamp(min=0)


def rejects_nan(x: Tensor) -> Tensor:
    if bool(x.isnan().any()):
        raise ValueError("NaN")
    return x * 2


def in_half_precision(x: Tensor) -> Tensor:
    return (x.half() * 3).float()


def fixed_one_hot(kind: Tensor) -> Tensor:
    return F.one_hot(kind, 10)


def masked_mean(ids: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(2).float()
    embedded = ids.unsqueeze(2).float().sin() * torch.arange(1.0, 5.0)
    return (embedded * weights).sum(1) / weights.sum(1).clamp(min=1)


INDEPENDENT = {
    **{
        function.__name__: (function, FLOATS)
        for function in (
            scaled, branch_per_row, softmax_of_a_row, layer_norm, row_norm, running_total_of_a_row, sorted_in_a_row,
            best_of_a_row, best_three, without_nan, clamped, logarithm, multiplied, convolved, frozen_statistics,
            attention_in_a_row, harmless_branch, rejects_nan, in_half_precision,
        )
    },
    "fixed_one_hot": (fixed_one_hot, "kind:INT64[3]=0..9"),
    "masked_mean": (masked_mean, "ids:INT64[7]=0..99,mask:INT64[7]"),
}  # fmt: skip
