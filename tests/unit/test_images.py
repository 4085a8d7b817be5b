"""From image files to tensors: exact pre-processing, every kind of picture as a person sees it, and damaged files."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.contract import Array, Contract, TensorSpec
from clients.decoding import MOST_PIXELS
from clients.errors import InvalidInput
from clients.images import ImageSpec, image_files, image_spec, load_image, normalise

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
COLOUR = ImageSpec(3, 2, 2, (0.5, 0.4, 0.3), (0.5, 0.2, 0.1), flat=False)
GREY = ImageSpec(1, 2, 2, (0.1307,), (0.3081,), flat=True)


def contract(dims: tuple[int, ...], **parameters: str) -> Contract:
    stated = {"IMAGE_MEAN": "0.5,0.5,0.5", "IMAGE_STD": "0.5,0.5,0.5"} | parameters
    return Contract("net", ("1",), 8, (TensorSpec("INPUT__0", "FP32", dims),), (), stated)


def random_pixels(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def saved(folder: Path, image: Image.Image, name: str = "image.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def refusal(path: Path, spec: ImageSpec = COLOUR) -> str:
    with pytest.raises(InvalidInput) as caught:
        load_image(path, spec)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("spec", [COLOUR, GREY], ids=["colour", "grey"])
def test_normalising_is_the_textbook_formula_up_to_float32_rounding(spec: ImageSpec) -> None:
    pixels = random_pixels(5, 2, 2, spec.channels)
    exact = (pixels / 255 - np.array(spec.mean)) / np.array(spec.std)
    tensor = normalise(pixels, spec)
    expected = exact.transpose(0, 3, 1, 2).reshape(tensor.shape)
    assert tensor.dtype == np.float32
    # A few units in the last place of the largest term: pixel / 255 / std.
    assert np.abs(tensor - expected).max() <= 4 * np.finfo(np.float32).eps / min(spec.std)


def test_a_tensor_has_its_channels_first_or_is_flat() -> None:
    assert normalise(random_pixels(5, 2, 2, 3), COLOUR).shape == (5, 3, 2, 2)
    assert normalise(random_pixels(5, 2, 2, 1), GREY).shape == (5, 4)


def test_a_model_s_config_describes_its_image_input() -> None:
    parameters = {"IMAGE_MEAN": "0.1307", "IMAGE_STD": "0.3081", "IMAGE_SHAPE": "1x28x28"}
    flat = image_spec(contract((784,), **parameters))
    assert flat == ImageSpec(1, 28, 28, (0.1307,), (0.3081,), flat=True)
    assert image_spec(contract((3, 4, 5))) == ImageSpec(3, 4, 5, (0.5,) * 3, (0.5,) * 3, flat=False)


@pytest.mark.parametrize(
    ("dims", "parameters"),
    [
        ((784,), {}),
        ((2, 4, 4), {}),
        ((3, -1, -1), {}),
        ((784,), {"IMAGE_SHAPE": "3x28x28"}),
        ((3, 4, 5), {"IMAGE_SHAPE": "3x5x4"}),
        ((784,), {"IMAGE_SHAPE": "28 by 28"}),
        ((784,), {"IMAGE_SHAPE": "1x28x-28"}),
    ],
)
def test_an_impossible_image_shape_is_refused_with_the_remedy(
    dims: tuple[int, ...], parameters: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput, match="net: expected an image shape .* set parameter IMAGE_SHAPE"):
        image_spec(contract(dims, **parameters))


@pytest.mark.parametrize("key", ["IMAGE_MEAN", "IMAGE_STD"])
@pytest.mark.parametrize("text", ["0.5", "a,b,c", "", "nan,1,1", "1,2,3,4"])
def test_invalid_or_missing_numbers_are_refused_by_name(key: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=f"net: expected 3 comma-separated numbers as {key}, got '{text}'"):
        image_spec(contract((3, 4, 4), **{key: text}))


def test_a_standard_deviation_of_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match="IMAGE_STD is a divisor and cannot be 0"):
        image_spec(contract((3, 4, 4), IMAGE_STD="1,0,1"))


def test_a_model_without_image_parameters_is_refused() -> None:
    silent = Contract("net", ("1",), 8, (TensorSpec("X", "FP32", (3, 4, 4)),), ())
    with pytest.raises(InvalidInput, match="net does not declare an image input"):
        image_spec(silent)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif", "a.tif", "a.webp", "named.wrongly.jpg"])
def test_pixels_are_loaded_as_they_were_saved(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8))
    kinds: dict[str, dict[str, Any]] = {"a.webp": {"lossless": True}, "named.wrongly.jpg": {"format": "PNG"}}
    path = saved(tmp_path, image, name, **kinds.get(name, {}))
    assert load_image(path, COLOUR).tolist() == [[list(RED), list(GREEN)], [list(BLUE), list(WHITE)]]


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, "top left"), (3, "bottom right"), (6, "top right"), (8, "bottom left")]
)
def test_the_exif_orientation_of_a_photo_is_applied(tmp_path: Path, orientation: int, corner: str) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(pixels), "photo.jpg", quality=95, exif=exif)
    seen = load_image(path, COLOUR)[..., 0] > 127
    corners = {"top left": seen[0, 0], "top right": seen[0, 1], "bottom left": seen[1, 0], "bottom right": seen[1, 1]}
    assert [name for name, bright in corners.items() if bright] == [corner]


def test_transparent_parts_are_blended_with_white(tmp_path: Path) -> None:
    pixels = np.array([[(0, 0, 0, 0), (0, 0, 0, 255)], [(0, 0, 0, 127), (255, 0, 0, 255)]], np.uint8)
    path = saved(tmp_path, Image.fromarray(pixels))
    seen = load_image(path, COLOUR).tolist()
    assert seen == [[[255] * 3, [0] * 3], [[128] * 3, list(RED)]]


def test_a_palette_is_expanded_and_its_transparent_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2, 2])
    opaque = load_image(saved(tmp_path, image), COLOUR).tolist()
    assert opaque == [[list(RED), list(GREEN)], [list(BLUE), list(BLUE)]]
    clear = load_image(saved(tmp_path, image, transparency=2), COLOUR).tolist()
    assert clear == [[list(RED), list(GREEN)], [list(WHITE), list(WHITE)]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "print.jpg", quality=100)
    assert np.abs(load_image(path, COLOUR).astype(int) - np.array(RED)).max() <= 3


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
@pytest.mark.parametrize("spec", [COLOUR, GREY], ids=["colour", "grey"])
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(tmp_path: Path, name: str, spec: ImageSpec) -> None:
    levels = np.array([[0, 257 * 50], [257 * 128, 65535]], np.uint16)
    path = saved(tmp_path, Image.fromarray(levels), name)
    assert load_image(path, spec)[..., 0].tolist() == [[0, 50], [128, 255]]


def test_images_are_converted_to_the_channels_of_the_model(tmp_path: Path) -> None:
    assert load_image(saved(tmp_path, Image.new("RGB", (2, 2), GREEN)), GREY)[0, 0].tolist() == [150]
    assert load_image(saved(tmp_path, Image.new("L", (2, 2), 77)), COLOUR)[0, 0].tolist() == [77] * 3
    assert load_image(saved(tmp_path, Image.new("1", (2, 2), 1)), GREY)[0, 0].tolist() == [255]


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (2, 2), RED), Image.new("RGB", (2, 2), BLUE)
    path = saved(tmp_path, first, "two.gif", save_all=True, append_images=[second])
    assert load_image(path, COLOUR)[0, 0].tolist() == list(RED)


def test_an_image_of_any_size_is_resized_to_the_model_s(tmp_path: Path) -> None:
    halves = np.zeros((10, 40, 3), np.uint8)
    halves[:, 20:] = 255
    left, right = load_image(saved(tmp_path, Image.fromarray(halves)), COLOUR).mean(axis=(0, 2))
    assert left < 50 and right > 205
    assert load_image(saved(tmp_path, Image.new("RGB", (1, 1), RED)), COLOUR).shape == (2, 2, 3)


def test_floating_point_pixels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.ones((2, 2), np.float32)), "float.tif")
    assert "save it with 8 bits per channel" in refusal(path)


def test_a_png_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path, Image.fromarray(random_pixels(16, 16, 3))).read_bytes()
    end = whole.index(b"IEND") - 8
    for length in (*range(0, 60), *range(60, end, 37)):
        path = tmp_path / "cut.png"
        path.write_bytes(whole[:length])
        assert "is not an image that can be read" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"", b"just text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n", b"P6 1 1 255 abc"]
)
def test_a_file_of_another_format_is_refused_whatever_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    assert "cannot identify image file" in refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nothing.png")


@pytest.mark.parametrize("width", [MOST_PIXELS // 1000 + 1, 100_000, 300_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, width: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, 1000))
    assert "pixels" in refusal(path)


def test_a_folder_means_all_images_below_it_sorted(tmp_path: Path) -> None:
    (tmp_path / "b" / "folder.png").mkdir(parents=True)
    for name in ("z.png", "b/y.JPG", "b/x.jpeg", "b/notes.txt"):
        (tmp_path / name).touch()
    files = image_files([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["b/x.jpeg", "b/y.JPG", "z.png"]


def test_files_that_are_given_keep_their_order_and_may_have_any_name(tmp_path: Path) -> None:
    named = [tmp_path / "z.dat", tmp_path / "a.png", tmp_path / "z.dat"]
    for path in named:
        path.touch()
    assert image_files(named) == named


def test_a_folder_without_images_and_a_missing_path_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"folder {tmp_path} holds no image"):
        image_files([tmp_path])
    with pytest.raises(InvalidInput, match=f"{tmp_path / 'gone'} does not exist"):
        image_files([tmp_path / "gone"])
