"""From an encoded picture to pixels as a person sees them; needs numpy and Pillow, nothing else of this repository.

The step that decodes on the server is published with a copy of this file, so that both sides do the same.
"""

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# The decoders that may run, whatever a file is called: Pillow knows some that start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MODES = {1: "L", 3: "RGB"}
# A file of some kilobytes can claim any size; decoding it would take four bytes for each of its pixels.
MOST_PIXELS = 80_000_000
# What Pillow's decoders raise on damaged files; OSError covers unidentified and truncated ones.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def decode(source: Path | IO[bytes], channels: int, largest: int | None = None) -> Image.Image:
    """Decode a picture to grey (1 channel) or RGB (3).

    Turned as its EXIF data say, transparent parts on white, 16 bits brought down to 8, the first picture of an
    animation.

    Args:
        source: a file, or a stream of its bytes.
        channels: 1 or 3.
        largest: pixels of the longer side at most; a larger picture is scaled down in proportion.

    Raises:
        Exception: one of DAMAGE: no picture, damaged or too large; `reason` puts it in words.
    """
    with Image.open(source, formats=FORMATS) as image:
        check_pixels(image)
        if largest:
            # JPEG can be decoded at a half, a quarter or an eighth for a fraction of the time.
            image.draft(None, (largest, largest))
        picture = as_seen(image).convert(MODES[channels])
    if largest:
        picture.thumbnail((largest, largest), Image.Resampling.BILINEAR)
    return picture


def reason(error: Exception) -> str:
    """Why a picture could not be decoded, in words."""
    if isinstance(error, UnidentifiedImageError):
        return f"cannot identify image file; expected one of {', '.join(FORMATS)}"
    return str(error) or type(error).__name__


def check_pixels(image: Image.Image) -> None:
    """Refuse what would fill the memory, before any pixel is decoded."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS}; scale it down")


def as_seen(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it, in a mode that converts to grey or RGB without loss of contrast."""
    upright = eight_bits(ImageOps.exif_transpose(image))
    if not upright.has_transparency_data:
        return upright
    picture = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, where Pillow's own conversion would turn all but the darkest pixels white."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 bits per channel")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
