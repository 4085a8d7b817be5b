"""timm's networks and segmentation_models_pytorch's, small and with random weights."""

from typing import Any

from torch import nn


def timm_model(name: str, **arguments: Any) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return network


def segmenter(name: str, encoder: str = "resnet18") -> nn.Module:
    import segmentation_models_pytorch

    network: nn.Module = segmentation_models_pytorch.create_model(name, encoder_name=encoder, encoder_weights=None)
    return network
