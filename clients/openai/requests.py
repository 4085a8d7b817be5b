"""What a caller of OpenAI's API asks for, read from the body of its request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clients.chat import Message
from clients.errors import ClientError

# Passed on under the same name, where OpenAI's and vLLM's mean the same; the engine judges the values.
_SAMPLING = (
    *("temperature", "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty"),
    *("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids", "skip_special_tokens"),
)
# About the caller, or how the answer is sent; they change nothing in it.
_KNOWN = {"model", "stream", "stream_options", "max_tokens", "logprobs", "user", "metadata", "store"}
_OF_CHAT, _OF_TEXT = {"messages", "max_completion_tokens", "top_logprobs"}, {"prompt"}
# What these mean is what happens without them.
_NEUTRAL = {"response_format": {"type": "text"}, "top_logprobs": 0, "echo": False, "best_of": 1, "suffix": ""}
# Tokens of an answer whose length the caller leaves open: OpenAI's for texts, room for an answer in a chat.
_LENGTH_OF_TEXT, _LENGTH_OF_CHAT = 16, 1024


class Refused(ClientError):
    """What is wrong with a request, and with which of its parameters."""

    def __init__(self, message: str, parameter: str | None = None):
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True)
class Asked:
    """A request for a completion.

    Attributes:
        prompt: a text, or in a chat the messages.
        counts_tokens: whether a stream ends with its usage.
        counts_each: whether every event of a stream has the usage so far, which is an extension of vLLM's.
    """

    model: str
    prompt: str | Sequence[Message]
    sampling: Mapping[str, Any]
    streams: bool
    counts_tokens: bool
    counts_each: bool = False

    @property
    def is_chat(self) -> bool:
        """Whether messages are to be answered."""
        return not isinstance(self.prompt, str)

    @property
    def likeliest(self) -> int | None:
        """How many of the likeliest tokens are told beside each chosen one; None for no probabilities at all."""
        return self.sampling.get("logprobs")


def asked(body: Any, is_chat: bool) -> Asked:
    """Read the body of a request.

    Raises:
        Refused: it is not one that can be answered.
    """
    if not isinstance(body, dict):
        raise Refused("the body must be a JSON object")
    given = {name: value for name, value in body.items() if value is not None and _NEUTRAL.get(name, ...) != value}
    for name in given.keys() - _KNOWN - (_OF_CHAT if is_chat else _OF_TEXT) - set(_SAMPLING):
        raise Refused(f"the parameter '{name}' is not supported", name)
    sampling = {name: given[name] for name in _SAMPLING if name in given}
    usual = _LENGTH_OF_CHAT if is_chat else _LENGTH_OF_TEXT
    sampling["max_tokens"] = given.get("max_completion_tokens", given.get("max_tokens", usual))
    sampling |= {} if (likeliest := _likeliest(given, is_chat)) is None else {"logprobs": likeliest}
    options = _typed(given, "stream_options", dict, {})
    return Asked(
        _typed(given, "model", str),
        _messages(given) if is_chat else _text(given),
        sampling,
        _typed(given, "stream", bool, False),
        bool(options.get("include_usage")),
        bool(options.get("include_usage") and options.get("continuous_usage_stats")),
    )


def _likeliest(given: Mapping[str, Any], is_chat: bool) -> int | None:
    if not is_chat:
        return int(_typed(given, "logprobs", int)) if "logprobs" in given else None
    if _typed(given, "logprobs", bool, False):
        return int(_typed(given, "top_logprobs", int, 0))
    if "top_logprobs" in given:
        raise Refused("'top_logprobs' takes \"logprobs\": true beside it", "top_logprobs")
    return None


def _typed(given: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = given.get(name, default)
    if not isinstance(value, kind):
        words = {str: "a string", bool: "true or false", dict: "an object", list: "a list", int: "an integer"}
        raise Refused(f"'{name}' must be {words[kind]}, got {value!r:.80}", name)
    if isinstance(value, str) and not value.isprintable():
        raise Refused(f"'{name}' holds what is no letter: {value!r:.80}", name)
    return value


def _text(given: Mapping[str, Any]) -> str:
    prompt = given.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise Refused("'prompt' must be one string; lists of strings or tokens are not supported", "prompt")
    return prompt


def _messages(given: Mapping[str, Any]) -> list[Message]:
    messages = _typed(given, "messages", list)
    if not messages:
        raise Refused("'messages' must hold at least one message", "messages")
    return [_message(place, message) for place, message in enumerate(messages)]


def _message(place: int, message: Any) -> Message:
    name = f"messages[{place}]"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refused(f"'{name}' must be an object with a role and a content", name)
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise Refused(f"'{name}.content' must be a text, or a list of texts", f"{name}.content")
    return {**message, "content": content}
