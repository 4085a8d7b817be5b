"""What clients send to a language model and how they read it, without a server."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from clients.chat import prompt_from, read_template
from clients.contract import Contract, TensorSpec
from clients.errors import InvalidInput
from clients.generation import Chunk, Reading, Token, generation
from clients.openai.replies import Reply
from clients.openai.requests import Refused, asked

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if messages[0].role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MESSAGES = [{"role": "user", "content": "Hi"}]


def contract(**parameters: str) -> Contract:
    tensors = (TensorSpec("text_input", "BYTES", (1,)),), (TensorSpec("text_output", "BYTES", (-1,)),)
    return Contract("lm", ("1",), 0, *tensors, parameters)


def outputs(texts: list[str], reasons: list[str], written: list[int]) -> dict[str, Any]:
    return {"text_output": texts, "finish_reason": reasons, "num_input_tokens": [5], "num_output_tokens": written}


def test_a_chat_template_is_rendered_up_to_where_the_model_answers() -> None:
    assert prompt_from(contract(CHAT_TEMPLATE=TEMPLATE, EOS_TOKEN="</s>"), MESSAGES) == "<user>Hi</s>\n<assistant>"
    assert prompt_from(contract(), MESSAGES, TEMPLATE) == "<user>Hi\n<assistant>"


@pytest.mark.parametrize(("content", "words"), [(b"\xff", "expected a text in UTF-8"), (None, "there is no file")])
def test_a_template_must_be_a_file_with_a_text(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "chat.jinja").write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        read_template(tmp_path / "chat.jinja")


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        ("", MESSAGES, "lm has no chat template; set the parameter CHAT_TEMPLATE"),
        (TEMPLATE, [{"role": "tool", "content": ""}], "do not fit the chat template of lm: no tools here"),
        ("{{ messages[0].content + 1 }}", MESSAGES, "do not fit the chat template of lm"),
        ("{% for %}", MESSAGES, "do not fit the chat template of lm"),
        ("{{ ''.__class__.__mro__ }}", MESSAGES, "unsafe"),
    ],
)
def test_what_a_template_cannot_render_is_invalid_input(template: str, messages: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        prompt_from(contract(), messages, template)


def test_a_model_that_takes_numbers_is_no_language_model() -> None:
    numbers = Contract("mlp", ("1",), 64, (TensorSpec("INPUT__0", "FP32", (784,)),), ())
    with pytest.raises(InvalidInput, match=r"mlp is no language model: it takes INPUT__0 FP32 \[784\], no text_input"):
        generation(numbers, "Hi", {})


def test_a_text_that_is_no_unicode_is_not_sent() -> None:
    with pytest.raises(InvalidInput, match="the prompt or a parameter cannot be sent"):
        generation(contract(), "\ud800", {})


def test_one_answer_without_lists_is_read_as_over_http() -> None:
    single = {"text_output": "sea", "finish_reason": "length", "num_input_tokens": 5, "num_output_tokens": 2}
    reading = Reading()
    assert reading.chunks(single) == [Chunk("sea", "length", 5, 2)]
    reading.check()


def test_of_several_answers_each_ends_once() -> None:
    reading = Reading()
    assert reading.chunks(outputs(["a", "b"], ["None", "stop"], [1, 1])) == [
        Chunk("a", None, 5, 1, 0),
        Chunk("b", "stop", 5, 1, 1),
    ]
    with pytest.raises(ConnectionError, match="no end"):
        reading.check()
    assert reading.chunks(outputs(["c", ""], ["length", "stop"], [1, 0])) == [Chunk("c", "length", 5, 1, 0)]
    reading.check()


def test_probabilities_are_read_with_those_of_other_tokens() -> None:
    told = {"7": _told("sea", -2.0, 3), "8": _told("lake", -0.5, 1), "9": _told("pond", -1.0, 2)}
    single = {"text_output": "sea", "finish_reason": "None", "num_input_tokens": 5, "num_output_tokens": 1}
    (piece,) = Reading().chunks(single | {"logprobs": json.dumps([told])})
    assert piece.tokens == (Token("sea", -2.0, (("lake", -0.5), ("pond", -1.0), ("sea", -2.0))),)
    assert Reading().chunks(single | {"logprobs": "null"})[0].tokens == Reading().chunks(single)[0].tokens == ()
    assert "return_logprobs" in generation(contract(), "Hi", {"logprobs": 0}).inputs
    assert "return_logprobs" not in generation(contract(), "Hi", {"logprobs": None}).inputs


def _told(text: str, logprob: float, rank: int) -> dict[str, Any]:
    return {"logprob": logprob, "rank": rank, "decoded_token": text}


SEA = Token("sea", -2.0, (("\ufffd", -0.5), ("lake", -1.0), ("sea", -2.0)))


def test_probabilities_are_told_in_openais_two_forms() -> None:
    sea, end = (
        Chunk("sea", None, 5, 1, 0, (SEA,)),
        Chunk("", "stop", 5, 1, 0, (Token("", -math.inf, (("", -math.inf),)),)),
    )
    chat = asked({"model": "lm", "messages": MESSAGES, "logprobs": True, "top_logprobs": 2}, is_chat=True)
    assert chat.sampling["logprobs"] == 2
    first, last = Reply(chat).whole([sea, end])["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("sea", -2.0, [115, 101, 97])
    assert [(each["token"], each["bytes"]) for each in first["top_logprobs"]] == [
        ("\ufffd", None),
        ("lake", [*b"lake"]),
    ]
    assert last["logprob"] == -9999.0
    reply = Reply(asked({"model": "lm", "prompt": "The", "logprobs": 2}, is_chat=False))
    parts = [json.loads(part[6:])["choices"][0]["logprobs"] for chunk in (sea, end) for part in reply.parts(chunk)]
    assert [part["text_offset"] for part in parts] == [[0], [3]]
    assert parts[0]["top_logprobs"] == [dict(SEA.known)] and parts[0]["token_logprobs"] == [-2.0]


def test_no_probabilities_are_told_unless_they_are_asked_for() -> None:
    chat = asked({"model": "lm", "messages": MESSAGES, "top_logprobs": 0}, is_chat=True)
    assert "logprobs" not in chat.sampling
    assert Reply(chat).whole([Chunk("sea", "stop", 5, 1)])["choices"][0]["logprobs"] is None


def test_an_openai_request_is_read_with_its_defaults() -> None:
    chat = asked({"model": "lm", "messages": MESSAGES, "stop": None, "logprobs": False, "user": "me"}, is_chat=True)
    assert (chat.prompt, chat.sampling, chat.streams) == (MESSAGES, {"max_tokens": 1024}, False)
    text = asked({"model": "lm", "prompt": ["Hi"], "n": 2, "stream": True, "echo": False}, is_chat=False)
    assert (text.prompt, text.sampling, text.streams) == ("Hi", {"max_tokens": 16, "n": 2}, True)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"messages": MESSAGES}, "model"),
        ({"model": "\ud800", "messages": MESSAGES}, "model"),
        ({"model": "lm"}, "messages"),
        ({"model": "lm", "messages": [{"content": "Hi"}]}, "messages[0]"),
        ({"model": "lm", "messages": [*MESSAGES, {"role": "user"}]}, "messages[1].content"),
        ({"model": "lm", "messages": MESSAGES, "stream": "yes"}, "stream"),
        ({"model": "lm", "messages": MESSAGES, "prompt": "Hi"}, "prompt"),
        ({"model": "lm", "messages": MESSAGES, "top_logprobs": 2}, "top_logprobs"),
        ({"model": "lm", "messages": MESSAGES, "logprobs": 2}, "logprobs"),
        ({"model": "lm", "messages": MESSAGES, "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_is_wrong_with_an_openai_request_is_named(body: Any, parameter: str) -> None:
    with pytest.raises(Refused) as caught:
        asked(body, is_chat=True)
    assert caught.value.parameter == parameter
