"""From a colour picture of any size to the input of a classifier of small images."""

from torch import Tensor, nn
from torch.nn.functional import interpolate

from clients.images import ImageSpec
from tools.steps.picture import Normalise, Planes


class ColourPrepare(nn.Module):
    """Pictures [N, H, W, 3], squeezed to the classifier's size with antialias as training and clients do it."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.planes = Planes([3])
        self.normalise = Normalise(spec)
        self.height, self.width = spec.height, spec.width

    def forward(self, pictures: Tensor) -> Tensor:
        """Float32 [N, 3, height, width]."""
        planes = self.planes(pictures)
        if planes.size(2) != self.height or planes.size(3) != self.width:
            size = [self.height, self.width]
            planes = interpolate(planes, size=size, mode="bilinear", antialias=True).clamp(0, 255)
        return self.normalise(planes)
