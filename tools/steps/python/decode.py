"""One encoded picture to RGB pixels; published as step.py of image_decode, beside clients/decoding.py."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from clients import decoding

    Array = npt.NDArray[Any]
else:
    import decoding

# What the steps behind take at most; a photo of 12 megapixels would only fill the server's shared memory.
MOST_SIDE = 1024


class Step:
    """Decodes; a larger picture is scaled down to 1024 pixels on its longer side."""

    def __init__(self, folder: str) -> None:
        del folder

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """BYTES [1, 1] to uint8 [1, H, W, 3].

        Raises:
            ValueError: what came is no picture, or one that cannot be read.
        """
        content = inputs["IMAGE"].item()
        try:
            picture = decoding.decode(io.BytesIO(content), channels=3, largest=MOST_SIDE)
        except decoding.DAMAGE as error:
            reason = decoding.reason(error)
            raise ValueError(f"the {len(content)} bytes are not an image that can be read: {reason}") from error
        return {"PIXELS": np.array(picture, np.uint8)[None]}
