"""What every step that takes pictures begins and ends with: bounds, pixels as numbers, normalisation."""

import torch
from torch import Tensor, nn

from clients.images import ImageSpec, scale_and_offset


class Planes(nn.Module):
    """Pictures [N, H, W, C], uint8 or floats of 0 to 255, as float32 planes [N, C, H, W] of 0 to 255.

    Floats may hold anything: what is no number becomes black, what lies outside is clipped.

    Args:
        channels: the numbers of channels that may come.
        least, most: bounds of both sides. Below 8 pixels there is nothing to see in a picture; with 1024 a batch of
            64 takes 200 MB, and no classifier here sees more of it.
    """

    def __init__(self, channels: list[int], least: int = 8, most: int = 1024) -> None:
        super().__init__()
        self.channels, self.least, self.most = channels, least, most

    def forward(self, pictures: Tensor) -> Tensor:
        """Raises ValueError, whose message Triton hands to the caller, for pictures out of bounds."""
        height, width, channels = pictures.size(1), pictures.size(2), pictures.size(3)
        if min(height, width) < self.least or max(height, width) > self.most or channels not in self.channels:
            raise ValueError(
                f"expected a picture [height, width, channels] with sides of {self.least} to {self.most} pixels and "
                f"channels among {self.channels}, got [{height}, {width}, {channels}]; scale or convert it"
            )
        planes = pictures.permute(0, 3, 1, 2).float()
        if pictures.is_floating_point():
            planes = torch.nan_to_num(planes, nan=0.0, posinf=255.0, neginf=0.0).clamp(0, 255)
        return planes


class Normalise(nn.Module):
    """Planes of 0 to 255 as a model's input, by the very numbers that `clients.images.normalise` uses."""

    scale: Tensor
    offset: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        scale, offset = (torch.from_numpy(each).view(1, -1, 1, 1) for each in scale_and_offset(spec))
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.flat = spec.flat

    def forward(self, planes: Tensor) -> Tensor:
        """Float32 [N, C, H, W] to the same shape, or to [N, C*H*W] for a model with a flat input."""
        tensor = planes * self.scale + self.offset
        return tensor.flatten(1) if self.flat else tensor
