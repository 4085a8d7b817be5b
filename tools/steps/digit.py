"""From any picture of one handwritten digit to what a model trained on MNIST expects.

MNIST's own preparation: the digit, light on dark, is scaled to fit 20x20 pixels and put into 28x28 with its centre of
mass in the middle. Before it come what scans and photos need: grey, noise, inversion, contrast, the place of the digit.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad

from clients.images import ImageSpec
from tools.steps.picture import Normalise, Planes


def grey(planes: Tensor) -> Tensor:
    """Planes [N, C, H, W] as one plane of luminance [N, H, W], by the weights that Pillow has."""
    if planes.size(1) == 1:
        return planes[:, 0]
    return 0.299 * planes[:, 0] + 0.587 * planes[:, 1] + 0.114 * planes[:, 2]


def neighbours(planes: Tensor) -> Tensor:
    """The eight pixels around each pixel of [N, H, W], as [8, N, H, W]; beyond the edge the edge goes on."""
    height, width = planes.size(1), planes.size(2)
    padded = pad(planes.unsqueeze(1), [1, 1, 1, 1], mode="replicate").squeeze(1)
    around: list[Tensor] = []
    for down in range(3):
        for right in range(3):
            if down != 1 or right != 1:
                around.append(padded[:, down : down + height, right : right + width])
    return torch.stack(around)


def without_specks(planes: Tensor) -> Tensor:
    """Replace salt and pepper by the median of its surroundings; strokes stay as they are.

    A speck differs much from the median around it and has at most one neighbour of its kind. A median filter would
    shave every stroke; of this, even lines of one pixel lose no more than their ends. Twice, because specks may touch.
    """
    for _ in range(2):
        around = neighbours(planes)
        median = around.median(0).values
        alike = ((around - planes).abs() < 64).sum(0)
        planes = torch.where(((planes - median).abs() > 96) & (alike < 2), median, planes)
    return planes


def light_on_dark(planes: Tensor) -> Tensor:
    """Ink as 0 to 255 on 0 from grey planes [N, H, W]: the background is what most of the border is."""
    border = torch.cat([planes[:, 0], planes[:, -1], planes[:, :, 0], planes[:, :, -1]], 1)
    background = border.median(1).values.view(-1, 1, 1)
    darkest, lightest = planes.amin([1, 2], keepdim=True), planes.amax([1, 2], keepdim=True)
    sign = torch.where(background - darkest > lightest - background, -1.0, 1.0)
    ink = ((planes - background) * sign).clamp(min=0)
    strongest = ink.amax([1, 2], keepdim=True)
    # A picture with hardly any contrast is blank: to stretch it would make a digit out of noise.
    return torch.where(strongest < 24, torch.zeros_like(ink), ink * (255 / strongest.clamp(min=1)))


def reduced(planes: Tensor, most: int) -> Tensor:
    """Planes [N, H, W], scaled down where a side is longer than `most`; the longest one is `most` then."""
    longest = max(planes.size(1), planes.size(2))
    if longest <= most:
        return planes
    size = [scaled(planes.size(1), longest, most), scaled(planes.size(2), longest, most)]
    return interpolate(planes.unsqueeze(1), size=size, mode="bilinear", antialias=True)[:, 0]


def scaled(side: int, longest: int, most: int) -> int:
    """A side when the longest one is made `most` pixels; rounded, and never nothing."""
    return max(1, (most * side + longest // 2) // longest)


def strokes(ink: Tensor) -> Tensor:
    """Which pixels of [H, W] belong to the digit, as 0 and 1: all that hangs together with a part as wide as a stroke.

    What the specks' filter left of noise is thinner.
    """
    inked = (ink > 48).float().unsqueeze(0)
    around = neighbours(inked).sum(0) * inked
    # A line of two pixels has five neighbours; where all is thinner than that, there is no noise to tell from it.
    grown = inked * (around > min(4.0, float(around.max()) - 1))
    for _ in range(ink.size(0) + ink.size(1)):
        before = grown
        grown = max_pool2d(grown, 3, 1, 1) * inked
        if torch.equal(before, grown):
            break
    return grown[0]


def box(ink: Tensor) -> list[int]:
    """Top, bottom, left and right of the digit in [H, W]; all zero where there is none."""
    drawn = strokes(ink)
    rows, columns = drawn.amax(1).nonzero(), drawn.amax(0).nonzero()
    if rows.numel() == 0:
        return [0, 0, 0, 0]
    return [int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1]


def cropped(ink: Tensor) -> Tensor:
    """The digit and hardly more of [H, W], found at 96 pixels a side, where strokes are wide and noise is not."""
    longest = max(ink.size(0), ink.size(1))
    if longest <= 96:
        return ink
    top, bottom, left, right = box(reduced(ink.unsqueeze(0), 96)[0])
    # One pixel more on each side, since a reduced one stands for several.
    rows = ink[max(0, (top - 1) * longest // 96) : (bottom + 1) * longest // 96]
    return reduced(rows[:, max(0, (left - 1) * longest // 96) : (right + 1) * longest // 96].unsqueeze(0), 96)[0]


def middle(ink: Tensor, side: int, room: int) -> int:
    """Where along its first dimension a plane must begin so that its centre of mass is in the middle of `side`."""
    weights = ink.sum(1)
    places = torch.arange(ink.size(0), dtype=ink.dtype, device=ink.device)
    centre = float((weights * places).sum() / weights.sum())
    return max(0, min(room, int(round(side / 2 - centre))))


def framed(ink: Tensor) -> Tensor:
    """The digit in ink [H, W] of 0 to 255 as MNIST has it: [28, 28] of 0 to 255, all zero where there is none."""
    canvas = torch.zeros([28, 28], dtype=ink.dtype, device=ink.device)
    ink = cropped(ink)
    top, bottom, left, right = box(ink)
    if bottom == top:
        return canvas
    digit = ink[top:bottom, left:right]
    longest = max(bottom - top, right - left)
    height, width = scaled(bottom - top, longest, 20), scaled(right - left, longest, 20)
    if longest != 20:
        digit = interpolate(digit[None, None], size=[height, width], mode="bilinear", antialias=True)[0, 0]
    down, along = middle(digit, 28, 28 - height), middle(digit.t(), 28, 28 - width)
    canvas[down : down + height, along : along + width] = digit
    return canvas


class DigitPrepare(nn.Module):
    """Pictures [N, H, W, C], dark on light or light on dark, to the input of a classifier of MNIST's digits."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.planes = Planes([1, 3])
        self.normalise = Normalise(spec)

    def forward(self, pictures: Tensor) -> Tensor:
        """Float32 [N, 784] (or [N, 1, 28, 28]); a blank picture is the classifier's black one."""
        # A digit that takes a tenth of a picture's side keeps 13 pixels of 128; more of them cost time, and averaging
        # does away with noise.
        ink = light_on_dark(without_specks(reduced(grey(self.planes(pictures)), 128)))
        digits = torch.stack([framed(each) for each in ink])
        return self.normalise(digits.unsqueeze(1))
