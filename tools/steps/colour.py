"""Preparation of a colour picture of any size for a classifier of small images."""

from torch import Tensor, nn
from torch.nn.functional import interpolate

from clients.images import ImageSpec
from tools.steps.picture import Normalise, Planes


class ColourPrepare(nn.Module):
    """Resize pictures [N, H, W, 3] to the classifier's size, antialiased as in training and clients, and normalise."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.planes = Planes([3])
        self.normalise = Normalise(spec)
        self.height, self.width = spec.height, spec.width

    def forward(self, pictures: Tensor) -> Tensor:
        """Return float32 [N, 3, height, width]."""
        planes = self.planes(pictures)
        if planes.size(2) != self.height or planes.size(3) != self.width:
            size = [self.height, self.width]
            planes = interpolate(planes, size=size, mode="bilinear", antialias=True).clamp(0, 255)
        return self.normalise(planes)
