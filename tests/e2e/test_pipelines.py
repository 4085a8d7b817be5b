"""Whole pipelines on the real server: the same answers as in Python, image by image, and a clear word for the rest."""

import io
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.client import Client
from clients.connection import Connection, Protocol
from clients.contract import Array
from clients.errors import ClientError, InvalidInput, RequestRejected
from tests.conftest import Command, connection_to
from tools.export import pipelines
from tools.repository import ROOT, read_manifest, versions
from tools.serve.tritonserver import Server

PIXELS = ("digit_image", "cifar10_image")
FILES = tuple(f"{model}_bytes" for model in PIXELS)
SAMPLES = ROOT / "build" / "samples"


def pictures_of(model: str, count: int | None = None) -> Array:
    """The first images of a pipeline's test set."""
    return pipelines.data_of(model).test_images[:count]


def indices(client: Client, model: str, pictures: Array) -> Array:
    """The class of each picture, in batches of 64."""
    parts = [pictures[at : at + 64] for at in range(0, len(pictures), 64)]
    return np.concatenate([client.infer(model, part, ["INDEX"])["INDEX"][:, 0] for part in parts])


def label(client: Client, model: str, content: bytes) -> tuple[str, float]:
    """The answer of a pipeline that takes files."""
    answer = client.infer(model, np.array([[content]], np.object_))
    assert answer.keys() == {"LABEL", "PROBABILITY", "ANSWER"}
    told = {"label": answer["LABEL"].item().decode(), "probability": round(answer["PROBABILITY"].item(), 4)}
    assert json.loads(answer["ANSWER"].item()) == told
    return answer["LABEL"].item().decode(), answer["PROBABILITY"].item()


def encoded(pixels: Array, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    pipelines.picture(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("model", PIXELS)
def test_the_whole_test_set_gets_the_labels_that_python_gets_image_by_image(
    model: str, server: Server, repository: Path
) -> None:
    data = pipelines.data_of(model, repository)
    with Client(Connection("grpc", server.grpc)) as client:
        served = indices(client, model, data.test_images)
    expected = pipelines.predictions(model, data, repository)
    assert np.array_equal(served, expected)
    manifest = read_manifest(model, versions(model, repository)[-1], repository)
    assert manifest["accuracy"] == pytest.approx(float((served == data.test_labels).mean()), abs=1e-6)
    assert manifest["accuracy"] >= manifest["classifier_accuracy"] - 0.01
    assert manifest["steps"] == {
        member: versions(member, repository)[-1] for member in pipelines.all_members(model, repository)
    }


@pytest.mark.parametrize("model", FILES)
def test_files_get_the_labels_that_python_gets(model: str, client: Client) -> None:
    pixels = model.removesuffix("_bytes")
    pictures = pictures_of(pixels, 40)
    names = pipelines.data_of(pixels).classes
    found = [label(client, model, encoded(each)) for each in pictures]
    answers = client.infer(pixels, pictures)
    assert [name for name, _ in found] == [names[index] for index in answers["INDEX"][:, 0]]
    np.testing.assert_allclose([score for _, score in found], answers["PROBABILITY"][:, 0], atol=1e-5)


@pytest.mark.parametrize("model", PIXELS)
def test_probabilities_come_with_labels_and_are_not_softened_twice(model: str, client: Client) -> None:
    pictures = pictures_of(model, 5)
    answer = client.infer(model, pictures)
    np.testing.assert_allclose(answer["PROBABILITIES"].sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(answer["PROBABILITIES"].max(1), answer["PROBABILITY"][:, 0])
    for row, labels in enumerate(client.classify(model, pictures, top=10)):
        assert {each.name for each in labels} == set(pipelines.data_of(model).classes)
        assert labels[0].index == answer["INDEX"][row, 0]
        found = [each.probability for each in sorted(labels, key=lambda each: each.index)]
        np.testing.assert_allclose(found, answer["PROBABILITIES"][row], atol=1e-5)


def enlarged(pictures: Array, side: int) -> Array:
    """Digits [N, 28, 28, 1] at another size."""
    return np.stack([np.asarray(pipelines.picture(each).resize((side, side)))[..., None] for each in pictures])


def sprinkled(pictures: Array) -> Array:
    """Salt and pepper on five pixels of a hundred."""
    random = np.random.default_rng(0)
    salt = random.choice(np.array([0, 255], np.uint8), pictures.shape)
    return np.where(random.random(pictures.shape) < 0.05, salt, pictures)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda digits: 255 - digits, id="inverted"),
        pytest.param(lambda digits: np.pad(digits, ((0, 0), (3, 80), (50, 7), (0, 0))), id="shifted"),
        pytest.param(lambda digits: enlarged(digits, 120), id="scaled"),
        pytest.param(sprinkled, id="noisy"),
        pytest.param(lambda digits: np.repeat(255 - digits // 2, 3, 3), id="RGB, grey on white"),
        pytest.param(lambda digits: sprinkled(np.pad(255 - enlarged(digits, 90), ((0, 0), (9, 20), (30, 7), (0, 0)),
                     constant_values=255)), id="all at once"),
    ],
)  # fmt: skip
def test_a_digit_keeps_its_label_whatever_was_done_to_its_picture(
    change: Callable[[Array], Array], server: Server
) -> None:
    digits = pictures_of("digit_image")
    with Client(Connection("grpc", server.grpc)) as client:
        clean, changed = (indices(client, "digit_image", pictures) for pictures in (digits, change(digits)))
    assert (clean == changed).mean() >= 0.95


@pytest.mark.parametrize("grey", [0, 255, 90])
def test_a_blank_picture_is_answered_as_the_black_one(grey: int, client: Client) -> None:
    black = client.infer("digit_image", np.zeros((1, 28, 28, 1), np.uint8))["PROBABILITIES"]
    blank = client.infer("digit_image", np.full((2, 50, 30, 3), grey, np.uint8))["PROBABILITIES"]
    np.testing.assert_allclose(blank, np.repeat(black, 2, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("digit_image", (7, 28, 1)),
        ("digit_image", (28, 1025, 3)),
        ("digit_image", (28, 28, 2)),
        ("cifar10_image", (7, 32, 3)),
    ],
)
def test_a_picture_out_of_bounds_is_refused_with_the_bounds(model: str, shape: tuple[int, ...], client: Client) -> None:
    with pytest.raises(ClientError) as caught:
        client.infer(model, np.zeros((1, *shape), np.uint8))
    assert "sides of 8 to 1024 pixels" in str(caught.value) and f"got {list(shape)}" in str(caught.value)
    assert indices(client, model, np.zeros((1, 32, 32, 3), np.uint8)).shape == (1,)


def test_what_is_no_picture_never_leaves_the_client(client: Client) -> None:
    with pytest.raises(InvalidInput, match="expected UINT8, got FP32"):
        client.infer("digit_image", np.zeros((1, 28, 28, 1), np.float32))
    with pytest.raises(InvalidInput, match=r"expected shape \[batch, -1, -1, 3\]"):
        client.infer("cifar10_image", np.zeros((1, 32, 32, 1), np.uint8))


def test_pictures_of_different_callers_and_sizes_each_get_their_own_answer(server: Server) -> None:
    pictures = pictures_of("cifar10_image", 60)
    sizes = [32, 48, 100]
    resized = [
        np.asarray(pipelines.picture(each).resize((sizes[number % 3], sizes[number % 3])))[None]
        for number, each in enumerate(pictures)
    ]

    def ask(batch: Array) -> Array:
        with Client(Connection("grpc", server.grpc)) as client:
            return client.infer("cifar10_image", batch)["PROBABILITIES"]

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, resized))
    np.testing.assert_allclose(together, [ask(batch) for batch in resized], atol=1e-4)


def bomb() -> bytes:
    """A small file that claims 30,000 x 30,000 pixels."""
    whole = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "BMP"))
    whole[18:26] = (30_000).to_bytes(4, "little") * 2
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "cannot identify image file", id="empty"),
        pytest.param(b"no image at all", "expected one of PNG, JPEG, WEBP", id="text"),
        pytest.param(encoded(np.zeros((99, 99, 3), np.uint8), "JPEG")[:300], "truncated", id="cut off"),
        pytest.param(bomb(), "could be decompression bomb", id="decompression bomb"),
        pytest.param(encoded(np.zeros((4, 40, 3), np.uint8)), "sides of 8 to 1024 pixels", id="too small"),
    ],
)
@pytest.mark.parametrize("model", FILES)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason_and_harms_nobody(
    model: str, content: bytes, words: str, client: Client
) -> None:
    with pytest.raises(ClientError, match=f"(?i){words}") as caught:
        label(client, model, content)
    assert isinstance(caught.value, RequestRejected) or "sides" in words
    assert label(client, model, encoded(pictures_of(model.removesuffix("_bytes"), 1)[0]))[1] > 0


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_other_kinds_of_files_get_the_label_too(kind: str, options: dict[str, Any], client: Client) -> None:
    picture = pictures_of("cifar10_image", 1)[0]
    expected = label(client, "cifar10_image_bytes", encoded(picture))
    assert label(client, "cifar10_image_bytes", encoded(picture, kind, **options))[0] == expected[0]


def test_a_photo_of_many_pixels_passes_and_print_colours_are_seen_right(client: Client) -> None:
    picture = pipelines.picture(pictures_of("cifar10_image", 1)[0])
    expected = label(client, "cifar10_image_bytes", encoded(np.asarray(picture)))[0]
    for large in (picture.resize((3000, 3000), Image.Resampling.BICUBIC), picture.convert("CMYK").resize((640, 640))):
        stream = io.BytesIO()
        large.save(stream, "JPEG", quality=90)
        assert label(client, "cifar10_image_bytes", stream.getvalue())[0] == expected


@pytest.mark.parametrize("model", [*PIXELS, *FILES])
def test_image_files_are_classified_from_the_command_line(
    model: str, command: Command, server: Server, protocol: Protocol
) -> None:
    arguments = ("--model", model, "--protocol", protocol, "--truth", "--json")
    done = command("clients.classify", SAMPLES / model, *arguments, server=server)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["accuracy"] > 0.8 and len(document["results"]) == 50


def test_curl_posts_a_file_and_reads_a_label(server: Server) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not on PATH")
    file = min((SAMPLES / "cifar10_image_bytes" / "frog").iterdir())
    url = f"http://{server.http}/v2/models/cifar10_image_bytes/infer"
    line = ["curl", "--silent", "--noproxy", "*", "--data-binary", f"@{file}", url]
    done = subprocess.run(
        [*line, "-H", "Inference-Header-Content-Length: 0"], capture_output=True, check=True, timeout=30
    )
    # The answer's tensors stand behind the JSON that describes them, and one of them is JSON again.
    (answer,) = map(json.loads, re.findall(rb'{"label[^}]*}', done.stdout))
    with Client(connection_to(server, "http")) as client:
        name, probability = label(client, "cifar10_image_bytes", file.read_bytes())
    assert answer == {"label": name, "probability": pytest.approx(probability, abs=1e-4)}


def test_a_file_within_json_is_answered_in_json(server: Server) -> None:
    file = encoded(pictures_of("cifar10_image", 1)[0])
    url = f"http://{server.http}/v2/models/cifar10_image_bytes/infer"
    size = {"binary_data_size": len(file) + 4}
    tensor = {"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "parameters": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = head + len(file).to_bytes(4, "little") + file
    request = urllib.request.Request(url, body, {"Inference-Header-Content-Length": str(len(head))})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        outputs = {each["name"]: each["data"] for each in json.load(answer)["outputs"]}
    with Client(connection_to(server, "http")) as client:
        name, probability = label(client, "cifar10_image_bytes", file)
    assert outputs["LABEL"] == [name] and outputs["PROBABILITY"] == pytest.approx([probability], abs=1e-5)


def test_features_are_what_the_logits_are_made_of_and_come_only_when_asked_for(client: Client) -> None:
    digits = np.random.default_rng(0).standard_normal((3, 784)).astype(np.float32)
    both = client.infer("mnist_mlp", digits)
    assert both["FEATURES__1"].shape == (3, 128) and (both["FEATURES__1"] >= 0).all()
    alone = client.infer("mnist_mlp", digits, ["OUTPUT__0"])
    assert alone.keys() == {"OUTPUT__0"}
    np.testing.assert_allclose(alone["OUTPUT__0"], both["OUTPUT__0"], rtol=1e-4, atol=1e-5)
    features = client.infer("cifar10_cnn", np.zeros((2, 3, 32, 32), np.float32), ["FEATURES__1"])
    assert features["FEATURES__1"].shape == (2, 84)
