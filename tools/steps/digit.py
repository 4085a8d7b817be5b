"""Preparation of a picture of one handwritten digit for a model trained on MNIST.

As in MNIST, the digit, light on dark, is scaled to fit 20x20 pixels and placed in 28x28 with its centre
of mass in the middle. Scans and photos need more before that: grey scale, noise removal, inversion, contrast, cropping.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad

from clients.images import ImageSpec
from tools.steps.picture import Normalise, Planes


def _grey(planes: Tensor) -> Tensor:
    # Luminance with the weights that Pillow uses: [N, C, H, W] to [N, H, W].
    if planes.size(1) == 1:
        return planes[:, 0]
    return 0.299 * planes[:, 0] + 0.587 * planes[:, 1] + 0.114 * planes[:, 2]


def _neighbours(planes: Tensor) -> Tensor:
    # The eight pixels around each pixel of [N, H, W], as [8, N, H, W]; edge pixels are repeated beyond the edge.
    height, width = planes.size(1), planes.size(2)
    padded = pad(planes.unsqueeze(1), [1, 1, 1, 1], mode="replicate").squeeze(1)
    around: list[Tensor] = []
    for down in range(3):
        for right in range(3):
            if down != 1 or right != 1:
                around.append(padded[:, down : down + height, right : right + width])
    return torch.stack(around)


def remove_specks(planes: Tensor) -> Tensor:
    """Replace salt-and-pepper noise in planes [N, H, W] with the median of its neighbours, without thinning strokes.

    A speck differs a lot from the median around it and resembles at most one neighbour. A plain median filter would
    thin every stroke; here even lines one pixel wide lose only their ends. Runs twice, because specks may touch.
    """
    for _ in range(2):
        around = _neighbours(planes)
        median = around.median(0).values
        alike = ((around - planes).abs() < 64).sum(0)
        planes = torch.where(((planes - median).abs() > 96) & (alike < 2), median, planes)
    return planes


def _extract_ink(planes: Tensor) -> Tensor:
    # Light ink (0 to 255) on black from grey planes [N, H, W]; the background is the border's median.
    border = torch.cat([planes[:, 0], planes[:, -1], planes[:, :, 0], planes[:, :, -1]], 1)
    background = border.median(1).values.view(-1, 1, 1)
    darkest, lightest = planes.amin([1, 2], keepdim=True), planes.amax([1, 2], keepdim=True)
    sign = torch.where(background - darkest > lightest - background, -1.0, 1.0)
    ink = ((planes - background) * sign).clamp(min=0)
    strongest = ink.amax([1, 2], keepdim=True)
    # A picture with hardly any contrast is blank: stretching it would turn noise into a digit.
    return torch.where(strongest < 24, torch.zeros_like(ink), ink * (255 / strongest.clamp(min=1)))


def _downscale(planes: Tensor, most: int) -> Tensor:
    # Planes [N, H, W] whose longer side is at most `most` pixels.
    longest = max(planes.size(1), planes.size(2))
    if longest <= most:
        return planes
    size = [_scaled_side(planes.size(1), longest, most), _scaled_side(planes.size(2), longest, most)]
    return interpolate(planes.unsqueeze(1), size=size, mode="bilinear", antialias=True)[:, 0]


def _scaled_side(side: int, longest: int, most: int) -> int:
    return max(1, (most * side + longest // 2) // longest)


def _stroke_mask(ink: Tensor) -> Tensor:
    # Pixels of [H, W] that belong to the digit, as 0 and 1: everything connected to a part as wide as a stroke. Noise
    # that remove_specks has left is thinner than that.
    inked = (ink > 48).float().unsqueeze(0)
    around = _neighbours(inked).sum(0) * inked
    # Pixels of a line two pixels wide have five neighbours; if everything is thinner, nothing distinguishes noise.
    grown = inked * (around > min(4.0, float(around.max()) - 1))
    for _ in range(ink.size(0) + ink.size(1)):
        before = grown
        grown = max_pool2d(grown, 3, 1, 1) * inked
        if torch.equal(before, grown):
            break
    return grown[0]


def _bounding_box(ink: Tensor) -> list[int]:
    # Top, bottom, left and right of the digit in [H, W]; all zero if there is none.
    drawn = _stroke_mask(ink)
    rows, columns = drawn.amax(1).nonzero(), drawn.amax(0).nonzero()
    if rows.numel() == 0:
        return [0, 0, 0, 0]
    return [int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1]


def _crop(ink: Tensor) -> Tensor:
    # The digit in [H, W] with a small margin, located at 96 pixels a side, where strokes are wide and noise is not.
    longest = max(ink.size(0), ink.size(1))
    if longest <= 96:
        return ink
    top, bottom, left, right = _bounding_box(_downscale(ink.unsqueeze(0), 96)[0])
    # One pixel more on each side, since a downscaled one stands for several.
    rows = ink[max(0, (top - 1) * longest // 96) : (bottom + 1) * longest // 96]
    return _downscale(rows[:, max(0, (left - 1) * longest // 96) : (right + 1) * longest // 96].unsqueeze(0), 96)[0]


def _offset(ink: Tensor, side: int, room: int) -> int:
    # Where along its first dimension a plane must start so that its centre of mass is in the middle of `side`.
    weights = ink.sum(1)
    places = torch.arange(ink.size(0), dtype=ink.dtype, device=ink.device)
    centre = float((weights * places).sum() / weights.sum())
    return max(0, min(room, int(round(side / 2 - centre))))


def frame_digit(ink: Tensor) -> Tensor:
    """Frame the digit in ink [H, W] as MNIST does: float [28, 28] of 0 to 255, all zero if there is no digit."""
    canvas = torch.zeros([28, 28], dtype=ink.dtype, device=ink.device)
    ink = _crop(ink)
    top, bottom, left, right = _bounding_box(ink)
    if bottom == top:
        return canvas
    digit = ink[top:bottom, left:right]
    longest = max(bottom - top, right - left)
    height, width = _scaled_side(bottom - top, longest, 20), _scaled_side(right - left, longest, 20)
    if longest != 20:
        digit = interpolate(digit[None, None], size=[height, width], mode="bilinear", antialias=True)[0, 0]
    down, along = _offset(digit, 28, 28 - height), _offset(digit.t(), 28, 28 - width)
    canvas[down : down + height, along : along + width] = digit
    return canvas


class DigitPrepare(nn.Module):
    """Turn pictures [N, H, W, C], dark on light or light on dark, into the input of an MNIST classifier."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.planes = Planes([1, 3])
        self.normalise = Normalise(spec)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return float32 [N, 784] or [N, 1, 28, 28]; a blank picture becomes a black one."""
        # A digit a tenth as large as the picture keeps 13 of 128 pixels; more pixels cost time, and averaging removes
        # noise.
        ink = _extract_ink(remove_specks(_downscale(_grey(self.planes(pictures)), 128)))
        digits = torch.stack([frame_digit(plane) for plane in ink])
        return self.normalise(digits.unsqueeze(1))
