"""Fewer bits per weight and activation: bfloat16 and float16 casts, int8 by calibration or by further training.

All int8 goes through torch.ao's FX mode, which torch means to remove; it is the one that TorchScript can carry.
Whatever replaces it replaces this module, and no recipe changes. Quantized operators exist for the CPU only.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.ao.quantization import get_default_qat_qconfig_mapping, get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx

from tools.compression.change import Change

# One scale per output channel and full 8-bit activations: the x86 kernels need no reserved bit where VNNI is present.
QCONFIG = "onednn"
# Samples that pass through the observers at a time.
CALIBRATION_BATCH = 64


class Cast(nn.Module):
    """A network that computes in another floating-point type; its inputs and outputs stay float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        # Channels last is the layout that oneDNN's low-precision convolutions want.
        self.network = network.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype

    def forward(self, image: Tensor) -> Tensor:
        """Cast in, compute, cast out."""
        output: Tensor = self.network(image.to(self.dtype)).float()
        return output


def cast(dtype: torch.dtype) -> Change:
    """Compute in this floating-point type."""
    return lambda network, _: Cast(network, dtype)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back torch.ao's notices of its own removal; the module's docstring says what we make of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def dynamic_int8(network: nn.Module, _: Tensor) -> nn.Module:
    """Int8 weights in linear layers, activations quantized per batch: needs no samples, helps where layers are wide."""
    with quiet():
        changed: nn.Module = quantize_dynamic(network.eval(), {nn.Linear}, dtype=torch.qint8)
    return changed


@torch.no_grad()
def static_int8(network: nn.Module, samples: Tensor) -> nn.Module:
    """Int8 weights and activations, with ranges observed on samples (post-training quantization).

    Args:
        network: in float32.
        samples: inputs like those that it will see, [N, …]; some hundreds are enough.
    """
    with quiet():
        observed = prepare_fx(network.eval(), get_default_qconfig_mapping(QCONFIG), (samples[:1],))
        for part in samples.split(CALIBRATION_BATCH):
            observed(part)
        converted: nn.Module = convert_fx(observed)
    return converted


def fake_int8(network: nn.Module, samples: Tensor) -> nn.Module:
    """Round in the forward pass as int8 would, so that training can adapt to it (quantization-aware training)."""
    with quiet():
        prepared: nn.Module = prepare_qat_fx(network.train(), get_default_qat_qconfig_mapping(QCONFIG), (samples[:1],))
    return prepared


def trained_int8(network: nn.Module, _: Tensor) -> nn.Module:
    """Turn what `fake_int8` prepared, and training adapted, into real int8."""
    with quiet():
        converted: nn.Module = convert_fx(network.eval())  # type: ignore[arg-type]  # a GraphModule by way of fake_int8
    return converted
