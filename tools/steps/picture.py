"""The first and last operations of every step that takes pictures: size limits, conversion, normalisation."""

import torch
from torch import Tensor, nn

from clients.images import ImageSpec, scale_and_offset


class Planes(nn.Module):
    """Convert pictures [N, H, W, C], uint8 or floats of 0 to 255, to float32 planes [N, C, H, W] of 0 to 255.

    Floats may hold anything: NaN becomes black, values out of range are clipped.
    """

    # Limits of both sides, in pixels: below 8 there is nothing to recognise; at 1024 a batch of 64 takes 200 MB, and no
    # classifier here uses more.
    def __init__(self, channels: list[int], least: int = 8, most: int = 1024) -> None:
        super().__init__()
        self.channels, self.least, self.most = channels, least, most

    def forward(self, pictures: Tensor) -> Tensor:
        """Raise ValueError, whose message Triton passes to the caller, for pictures beyond the limits."""
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
    """Normalise planes of 0 to 255 to a model's input, with the numbers that `clients.images.normalise` uses."""

    scale: Tensor
    offset: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        scale, offset = (torch.from_numpy(values).view(1, -1, 1, 1) for values in scale_and_offset(spec))
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.flat = spec.flat

    def forward(self, planes: Tensor) -> Tensor:
        """Map float32 [N, C, H, W] to the same shape, or to [N, C*H*W] for a model with a flat input."""
        tensor = planes * self.scale + self.offset
        return tensor.flatten(1) if self.flat else tensor
