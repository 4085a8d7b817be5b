"""Steps of pipelines as plain functions: how pictures are prepared, how robustly, and what is refused."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from clients.images import ImageSpec, load_image, normalise
from tools import datasets
from tools.export import pipelines
from tools.repository import ROOT
from tools.steps.answer import Classification
from tools.steps.colour import ColourPrepare
from tools.steps.digit import DigitPrepare, frame_digit, remove_specks

GREY = ImageSpec(1, 28, 28, (0.1307,), (0.3081,), flat=True)
COLOUR = ImageSpec(3, 32, 32, (0.5, 0.4, 0.3), (0.5, 0.2, 0.1), flat=False)
BLANK = normalise(np.zeros((1, 28, 28, 1), np.uint8), GREY)
Change = Callable[[Tensor], Tensor]


def random_pixels(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """A hundred test digits, uint8 [100, 28, 28, 1]."""
    return torch.from_numpy(datasets.load("digits").test_images[:100])


def scaled(digits: Tensor, side: int) -> Tensor:
    planes = digits.permute(0, 3, 1, 2).float()
    larger = interpolate(planes, size=[side, side], mode="bicubic", antialias=True)
    return larger.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def shifted(digits: Tensor) -> Tensor:
    return pad(digits.permute(0, 3, 1, 2), [50, 7, 3, 80]).permute(0, 2, 3, 1)


def sprinkled(pictures: Tensor) -> Tensor:
    """Salt and pepper on five pixels of a hundred."""
    random = torch.Generator().manual_seed(0)
    hit = torch.rand(pictures.shape, generator=random) < 0.05
    salt = (torch.rand(pictures.shape, generator=random) < 0.5).to(torch.uint8) * 255
    return torch.where(hit, salt, pictures)


def closeness(digits: Tensor, change: Change) -> float:
    """Mean correlation of changed digits, prepared, with the untouched ones, prepared."""
    prepare = DigitPrepare(GREY)
    before, after = prepare(digits), prepare(change(digits))
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(before, after)]).mean())  # noqa: B905


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda digits: 255 - digits, id="dark on light"),
        pytest.param(lambda digits: shifted(digits), id="shifted"),
        pytest.param(lambda digits: scaled(digits, 123), id="enlarged"),
        pytest.param(lambda digits: scaled(digits, 800), id="enlarged very much"),
        pytest.param(lambda digits: scaled(digits, 20), id="reduced"),
        pytest.param(sprinkled, id="salt and pepper"),
        pytest.param(lambda digits: sprinkled(shifted(scaled(digits, 123))), id="salt and pepper on a large picture"),
        pytest.param(lambda digits: 255 - digits.repeat(1, 1, 1, 3) // 2, id="grey on white, in colour"),
    ],
)
def test_a_distorted_digit_is_prepared_to_nearly_the_same_input(digits: Tensor, change: Change) -> None:
    assert closeness(digits, change) > 0.93


def test_a_digit_fits_20_pixels_and_its_centre_of_mass_is_in_the_middle(digits: Tensor) -> None:
    places = torch.arange(28.0)
    for digit in shifted(scaled(digits, 90))[..., 0].float():
        frame = frame_digit(digit)
        rows, columns = frame.amax(1).nonzero(), frame.amax(0).nonzero()
        assert max(len(rows), len(columns)) <= 20 <= max(int(each[-1] - each[0]) for each in (rows, columns)) + 3
        for axis in (0, 1):
            centre = float((frame.sum(1 - axis) * places).sum() / frame.sum())
            assert abs(centre - 14) <= 1 or {int(rows[0]), int(columns[0])} & {0} or 27 in {int(rows[-1])}


def test_framing_the_stand_in_s_digits_again_changes_little(digits: Tensor) -> None:
    assert closeness(digits, lambda same: same) == pytest.approx(1)
    again = torch.stack([frame_digit(frame_digit(digit)) for digit in digits[..., 0].float()])
    once = torch.stack([frame_digit(digit) for digit in digits[..., 0].float()])
    assert (again - once).abs().amax((1, 2)).lt(1).float().mean() > 0.9


def test_specks_are_removed_strokes_stay_and_thin_lines_lose_only_their_ends() -> None:
    stroke = torch.zeros(1, 20, 20)
    stroke[:, 8:11, 3:17] = 255
    assert torch.equal(remove_specks(stroke), stroke)
    speckled = stroke.clone()
    speckled[:, 2, 2], speckled[:, 15, 15], speckled[:, 15, 16], speckled[:, 9, 9] = 255, 255, 255, 0
    assert torch.equal(remove_specks(speckled), stroke)
    line = torch.zeros(1, 20, 20)
    line[:, 10, 3:17] = 255
    assert int(remove_specks(line).sum()) == (14 - 4) * 255


@pytest.mark.parametrize("grey", [0, 255, 128])
def test_a_blank_picture_of_any_grey_is_an_empty_frame(grey: int) -> None:
    for size in ((8, 8, 1), (28, 28, 3), (300, 40, 1)):
        found = DigitPrepare(GREY)(torch.full((2, *size), grey, dtype=torch.uint8))
        assert np.array_equal(found.numpy(), np.repeat(BLANK, 2, 0))


def test_a_picture_without_contrast_is_blank() -> None:
    faint = 128 + random_pixels(1, 40, 40, 1) // 16
    assert np.array_equal(DigitPrepare(GREY)(faint).numpy(), BLANK)


def test_nan_and_out_of_range_floats_are_cleaned(digits: Tensor) -> None:
    floats = digits[:1].float()
    floats[:, 0, 0], floats[:, 0, 5], floats[:, 27, 3] = torch.nan, -torch.inf, -1e30
    assert torch.equal(DigitPrepare(GREY)(floats), DigitPrepare(GREY)(digits[:1]))
    wild = torch.tensor([torch.nan, torch.inf, -torch.inf, 300.0]).view(1, 2, 2, 1).repeat(1, 8, 8, 3)
    assert ColourPrepare(COLOUR)(wild).isfinite().all()


@pytest.mark.parametrize(
    ("step", "shape", "channels"),
    [
        (DigitPrepare(GREY), (7, 28, 1), "[1, 3]"),
        (DigitPrepare(GREY), (28, 1025, 1), "[1, 3]"),
        (DigitPrepare(GREY), (28, 28, 4), "[1, 3]"),
        (ColourPrepare(COLOUR), (32, 7, 3), "[3]"),
        (ColourPrepare(COLOUR), (1025, 32, 3), "[3]"),
        (ColourPrepare(COLOUR), (32, 32, 1), "[3]"),
    ],
)
def test_pictures_beyond_the_limits_are_refused_with_the_limits(
    step: torch.nn.Module, shape: tuple[int, ...], channels: str
) -> None:
    with pytest.raises(ValueError) as caught:
        step(torch.zeros(2, *shape, dtype=torch.uint8))
    assert f"sides of 8 to 1024 pixels and channels among {channels}, got {list(shape)}" in str(caught.value)


def test_the_largest_and_the_smallest_picture_pass() -> None:
    for side in (8, 1024):
        assert DigitPrepare(GREY)(random_pixels(1, side, side, 3)).shape == (1, 784)
        assert ColourPrepare(COLOUR)(random_pixels(1, side, side, 3)).shape == (1, 3, 32, 32)


def test_step_and_clients_normalise_to_the_same_numbers() -> None:
    pixels = random_pixels(4, 32, 32, 3)
    expected = normalise(pixels.numpy(), COLOUR)
    np.testing.assert_allclose(ColourPrepare(COLOUR)(pixels).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_step_and_clients_resize_a_picture_equally_up_to_one_grey_level(tmp_path: Path) -> None:
    smooth = scaled(random_pixels(1, 12, 9, 3), 200)
    Image.fromarray(smooth[0].numpy()).save(tmp_path / "smooth.png")
    plain = ImageSpec(3, 32, 32, (0.0,) * 3, (1 / 255,) * 3, flat=False)
    expected = load_image(tmp_path / "smooth.png", plain).transpose(2, 0, 1)
    assert np.abs(ColourPrepare(plain)(smooth)[0].numpy() - expected).max() <= 1.01


def test_probabilities_sum_to_one_and_the_best_class_is_named() -> None:
    logits = torch.tensor([[0.0, 5.0, -2.0], [1000.0, 0.0, 0.0]])
    probabilities, index, best = Classification()(logits)
    assert probabilities.sum(1).tolist() == pytest.approx([1, 1])
    assert index.tolist() == [[1], [0]] and index.dtype == torch.int64
    assert torch.equal(best, probabilities.gather(1, index))


@pytest.fixture
def decode(tmp_path: Path) -> Callable[[bytes], np.ndarray]:
    """The decoding step, from a folder that holds what its version folder holds."""
    for name, source in (("step.py", "tools/steps/python/decode.py"), ("decoding.py", "clients/decoding.py")):
        (tmp_path / name).write_bytes((ROOT / source).read_bytes())
    step = pipelines.python_step(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoding.py", "step.py"]
    return lambda content: step.run({"IMAGE": np.array([[content]], np.object_)})["PIXELS"]


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_a_file_is_decoded_to_its_pixels(decode: Callable[[bytes], np.ndarray]) -> None:
    pixels = random_pixels(9, 14, 3).numpy()
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})):
        assert np.array_equal(decode(encoded(Image.fromarray(pixels), kind, **options)), pixels[None])


@pytest.mark.parametrize(("size", "expected"), [((3000, 1500), (512, 1024)), ((1000, 2000), (1024, 512))])
def test_a_large_photo_is_downscaled_to_1024_pixels(
    size: tuple[int, int], expected: tuple[int, int], decode: Callable[[bytes], np.ndarray]
) -> None:
    assert decode(encoded(Image.new("RGB", size, "red"), "JPEG")).shape == (1, *expected, 3)


def test_cmyk_16_bit_grey_and_exif_rotation_are_decoded_as_viewers_show_them(
    decode: Callable[[bytes], np.ndarray],
) -> None:
    red = decode(encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 3
    deep = decode(encoded(Image.fromarray(np.full((9, 9), 257 * 50, np.uint16))))
    assert np.unique(deep).tolist() == [50]
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=turned)).shape == (1, 20, 10, 3)
    assert np.unique(decode(encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 0))))).tolist() == [255]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot identify image file"),
        (b"no image at all", "expected one of PNG, JPEG, WEBP"),
        (encoded(Image.new("RGB", (99, 99), "red"))[:120], "truncated"),
    ],
)
def test_bytes_that_are_not_an_image_are_refused_with_the_reason(
    content: bytes, words: str, decode: Callable[[bytes], np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=f"the {len(content)} bytes are not an image that can be read: .*{words}"):
        decode(content)
