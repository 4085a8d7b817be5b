"""Text from a language model, piece by piece: what is sent and how it is read, over either protocol.

The tensors are those of NVIDIA's vLLM backend, so every model behind it will do, whoever serves it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from clients.chat import Message, prompt_from
from clients.contract import Contract, names
from clients.errors import InvalidInput

_INPUT, _TEXT, _REASON = "text_input", "text_output", "finish_reason"
_READ, _WRITTEN, _LOGPROBS = "num_input_tokens", "num_output_tokens", "logprobs"


@dataclass(frozen=True)
class Token:
    """A token of an answer, where `logprobs` were asked for.

    Attributes:
        text: what it stands for; a part of a character is U+FFFD.
        logprob: the logarithm of its probability.
        known: texts and logarithms of all tokens that were told in its place, itself among them, the likeliest first.
    """

    text: str
    logprob: float
    known: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer.

    Attributes:
        text: what is new; may be empty where a character is not complete.
        finish_reason: why the answer ends here: "stop" or "length"; None while it goes on.
        input_tokens: of the whole prompt.
        output_tokens: of this piece.
        index: which answer, where several were asked for (n=2).
        tokens: those of this piece, where their probabilities were asked for (logprobs=0).
    """

    text: str
    finish_reason: str | None
    input_tokens: int
    output_tokens: int
    index: int = 0
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Generation:
    """A request for text: the model, and its input tensors of one element each."""

    model: str
    version: str
    inputs: Mapping[str, str | bool]

    @property
    def path(self) -> str:
        """Where it is posted over HTTP."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{quote(self.model)}{version}/generate_stream"

    def message(self) -> Any:
        """The same for gRPC."""
        from tritonclient.grpc.service_pb2 import ModelInferRequest

        request = ModelInferRequest(model_name=self.model, model_version=self.version)
        for name, value in self.inputs.items():
            if isinstance(value, bool):
                request.inputs.add(name=name, datatype="BOOL", shape=[1]).contents.bool_contents.append(value)
            else:
                tensor = request.inputs.add(name=name, datatype="BYTES", shape=[1])
                tensor.contents.bytes_contents.append(value.encode())
        return request


def is_language_model(contract: Contract) -> bool:
    """Whether a model takes and gives texts as those of vLLM do."""
    return _INPUT in {spec.name for spec in contract.inputs} and _TEXT in {spec.name for spec in contract.outputs}


def generation(
    contract: Contract,
    prompt: str | Sequence[Message],
    sampling: Mapping[str, Any],
    stream: bool = True,
    chat_template: str = "",
    version: str = "",
) -> Generation:
    """Ask a model to continue a text, or to answer messages.

    Raises:
        InvalidInput: it is no language model, or something cannot be sent.
    """
    if not is_language_model(contract):
        raise InvalidInput(f"{contract.model} is no language model: it takes {names(contract.inputs)}, no {_INPUT}")
    text = prompt if isinstance(prompt, str) else prompt_from(contract, prompt, chat_template)
    try:
        text.encode()
        parameters = json.dumps(sampling, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{contract.model}: the prompt or a parameter cannot be sent ({error})") from error
    told = (_REASON, _READ, _WRITTEN, *([_LOGPROBS] if sampling.get(_LOGPROBS) is not None else []))
    wanted = {f"return_{name}": True for name in told}
    inputs: dict[str, str | bool] = {
        _INPUT: text,
        "sampling_parameters": parameters,
        "stream": stream,
        "exclude_input_in_output": True,
    }
    return Generation(contract.model, version, inputs | wanted)


class Reading:
    """One generation as it comes in: which of its answers have ended."""

    def __init__(self) -> None:
        self._ended: set[int] = set()
        self._seen: set[int] = set()

    @property
    def has_begun(self) -> bool:
        """Whether there was a response."""
        return bool(self._seen)

    def check(self) -> None:
        """Raise ConnectionError if an answer has no end: the server stopped in the middle."""
        if not self._seen or self._seen != self._ended:
            raise ConnectionError("the answer has no end")

    def chunks(self, outputs: Mapping[str, Any]) -> list[Chunk]:
        """The pieces in one response; LookupError or ValueError if it is not that of a language model."""
        (read,) = _listed(outputs[_READ])
        columns = [_listed(outputs[name]) for name in (_TEXT, _REASON, _WRITTEN)]
        tokens = map(_tokens, _listed(outputs.get(_LOGPROBS, ["null"] * len(columns[0]))))
        pieces = [
            Chunk(text, None if reason == "None" else reason, int(read), int(written), index, known)
            for index, (text, reason, written, known) in enumerate(zip(*columns, tokens, strict=True))
            # Of several answers, those that have ended may be reported again.
            if index not in self._ended
        ]
        self._seen |= {piece.index for piece in pieces}
        self._ended |= {piece.index for piece in pieces if piece.finish_reason}
        return [piece for piece in pieces if piece.text or piece.output_tokens or piece.finish_reason]


def _listed(value: Any) -> list[Any]:
    """A tensor's elements; HTTP has a single one without a list."""
    return value if isinstance(value, list) else [value]


def _tokens(text: str) -> tuple[Token, ...]:
    """Tokens from their JSON: for each a table of the chosen one, then the likeliest ones."""
    return tuple(
        _token([(each["decoded_token"], each["logprob"]) for each in told.values()]) for told in json.loads(text) or ()
    )


def _token(told: list[tuple[str, float]]) -> Token:
    return Token(*told[0], tuple(sorted(told, key=lambda each: -each[1])))
