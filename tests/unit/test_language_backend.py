"""The vllm backend's stand-in without a server: tokens to text, sampling parameters, settings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.backends.vllm import sampling
from tools.backends.vllm.sampling import Sampling
from tools.backends.vllm.settings import read_settings
from tools.backends.vllm.text import Text, Vocabulary
from tools.repository import ROOT

BYTES = Vocabulary([bytes([byte]) for byte in range(256)] + [b"<end>"], frozenset({256}))


def pieces(text: str, **parameters: object) -> list[str]:
    """What leaves after each byte of a text, and at its end."""
    reading = Text(BYTES, Sampling(**parameters))  # type: ignore[arg-type]
    return [reading.add([byte]) for byte in text.encode()] + [reading.end()]


@pytest.mark.parametrize("text", ["plain", "naïve", "日本語", "😀 and 👩‍👩‍👧", "a\ufffdb"])
def test_a_character_leaves_whole_with_its_last_byte(text: str) -> None:
    left = pieces(text)
    assert "".join(left) == text
    assert all("\ufffd" not in piece for piece in left) or "\ufffd" in text


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ["two"], "one "),
        ("aaab", ["aab"], "a"),
        ("abcabd", ["abd"], "abc"),
        ("no end here", ["ends"], "no end here"),
        ("é日x", ["日"], "é"),
        ("first or second", ["second", "or"], "first "),
        ("ends at en", ["end!"], "ends at en"),
    ],
)
def test_text_before_a_stop_string_leaves_and_nothing_of_it(text: str, stop: list[str], expected: str) -> None:
    assert "".join(pieces(text, stop=tuple(stop))) == expected
    if expected != text:
        first = min((place, one) for one in stop if (place := text.find(one)) >= 0)[1]
        assert "".join(pieces(text, stop=tuple(stop), include_stop_str_in_output=True)) == expected + first


def test_only_what_may_begin_a_stop_string_waits() -> None:
    assert pieces("xyz--", stop=("--!",)) == ["x", "y", "z", "", "", "--"]


def test_stops_count_after_the_least_number_of_tokens() -> None:
    assert "".join(pieces("a.b.c", stop=(".",), min_tokens=3)) == "a.b"
    reading = Text(BYTES, Sampling(stop_token_ids=(98,), min_tokens=2))
    assert (reading.add(b"bbb"), reading.is_stopped, reading.tokens) == ("bb", True, 3)


def test_special_tokens_are_no_text_unless_they_are_wanted() -> None:
    assert Text(BYTES, Sampling()).add([65, 256]) == "A"
    assert Text(BYTES, Sampling(skip_special_tokens=False)).add([65, 256]) == "A<end>"


def test_parameters_are_coerced_as_by_the_original() -> None:
    given = {"max_tokens": "5", "temperature": "0", "ignore_eos": "true", "top_k": 3.0, "stop": "x", "seed": None}
    read = sampling.read(json.dumps(given), 4)
    assert (read.max_tokens, read.is_greedy, read.ignore_eos, read.top_k, read.stop) == (5, True, True, 3, ("x",))
    assert sampling.read("{}", 4) == Sampling()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"top_p": NaN}', '{"n": true}', '{"top_k": 1.5}', '{"stop": [1]}'])
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        sampling.read(text, 4)


def folder(place: Path, arguments: object = None, *files: str) -> Path:
    """A version's folder."""
    for name in files:
        (place / name).touch()
    if arguments is not None:
        (place / "model.json").write_text(json.dumps(arguments))
    return place


@pytest.mark.parametrize(
    ("arguments", "files", "kind", "message"),
    [
        (None, ["model.gguf"], "MODEL", "'model.json' containing vllm engine args must be provided in"),
        ({}, [], "MODEL", "holds no openvino_model.xml and no GGUF file"),
        (
            {"max_model_len": "long"},
            ["model.gguf"],
            "MODEL",
            "max_model_len: expected an integer of at least 1, got 'long'",
        ),
        ({"tensor_parallel_size": 2}, ["model.gguf"], "GPU", "please specify KIND_MODEL"),
        ({}, ["model.gguf", "multi_lora.json"], "MODEL", "this engine has no LoRA"),
        ({"speculative_config": {"method": "x"}}, ["model.gguf"], "MODEL", "expected method ngram or a draft model"),
    ],
)
def test_a_version_that_cannot_be_served_says_why(
    tmp_path: Path, arguments: object, files: list[str], kind: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(folder(tmp_path, arguments, *files), {}, kind)


def test_arguments_of_vllm_mean_the_same(tmp_path: Path) -> None:
    given = {"max_model_len": 100, "dtype": "float32", "gpu_memory_utilization": 0.5, "enable_prefix_caching": False}
    own = {"parameters": {"KV_CACHE_TOKENS": {"string_value": "640"}, "KV_CACHE_PRECISION": {"string_value": "u8"}}}
    read = read_settings(folder(tmp_path, given, "model.gguf"), own, "MODEL")
    assert (read.max_model_len, read.blocks, read.needed(33), read.prefix_caching) == (100, 20, 2, False)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    assert read.properties == {"KV_CACHE_PRECISION": "u8", **exact}


def test_a_missing_wheel_names_the_remedy(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
sys.modules["openvino_genai"] = None
from tools.backends.vllm.pipeline import Pipeline
from tools.backends.vllm.sampling import Sampling
from tools.backends.vllm.settings import read_settings
Pipeline(read_settings(Path(sys.argv[1]), {}, "MODEL"), Sampling())
"""
    arguments = [sys.executable, "-c", program, str(folder(tmp_path, {}, "model.gguf"))]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert "openvino-genai is not installed; run `make lm`" in ended.stderr
