"""Prompts of a load test of a language model, from a file or made of words, encoded for Triton or for OpenAI's API.

Words that are one token each, behind a blank, make prompts of an exact number of tokens without the model's tokenizer
(`loadtest.generator.exact_prompts` asks the server which words are). They are drawn anew for every run: a server that
keeps the prefixes of prompts must not know them.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.command import positive
from clients.connection import Connection, connection_from
from clients.errors import InvalidInput
from clients.generation import Generation
from loadtest.load import Load
from loadtest.payloads import Payload

STREAMS = ("grpc", "http", "openai")  # Triton's ModelStreamInfer, its generate_stream, and OpenAI's completions
FIRST_WORD = "Once"  # of every prompt that is made of words: the only one without a blank in front
_MOST = 2000  # prompts of one run; later requests repeat them
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Prompt:
    """A prompt, and how many tokens to answer it with."""

    text: str
    output_tokens: int


@dataclass(frozen=True)
class PromptOptions:
    """What is asked of a language model."""

    prompt_tokens: int = 128  # of prompts that are made of words
    output_tokens: int = 64
    prompts: Path | None = None  # a JSON Lines file of prompts
    chat: bool = False  # OpenAI's chat completions, which put the prompt into the model's template
    parameters: str = "{}"  # further sampling parameters, a JSON object


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of PromptOptions."""
    usual, group = PromptOptions(), parser.add_argument_group("language models")
    text = "tokens of each prompt, exactly (default: %(default)s)"
    group.add_argument("--prompt-tokens", type=positive, default=usual.prompt_tokens, metavar="N", help=text)
    text = "tokens of each answer, exactly, where the file of prompts says nothing else (default: %(default)s)"
    group.add_argument("--output-tokens", type=positive, default=usual.output_tokens, metavar="N", help=text)
    text = 'prompts in place of made ones, a line each: {"prompt": "…", "output_tokens": 64}, the number optional'
    group.add_argument("--prompts", type=Path, metavar="FILE.jsonl", help=text)
    group.add_argument("--chat", action="store_true", help="with --protocol openai, ask for chat completions")
    text = """further sampling parameters, as '{"temperature": 0.7}' (default: greedy)"""
    group.add_argument("--parameters", default=usual.parameters, metavar="JSON", help=text)


def stream_connection(arguments: argparse.Namespace) -> Connection:
    """Read the options of a connection for one of STREAMS; OpenAI's API is HTTP at an address of its own."""
    if arguments.protocol != "openai":
        return connection_from(arguments)
    base = os.environ.get("OPENAI_BASE_URL", "").partition("://")[2].removesuffix("/v1")
    url = arguments.url or base or "127.0.0.1:8080"
    return connection_from(argparse.Namespace(**{**vars(arguments), "protocol": "http", "url": url}))


@dataclass(frozen=True)
class Prompts:
    """The prompts of a test: those of a file, else as many as needed, of words."""

    model: str
    stream: str  # one of STREAMS
    options: PromptOptions
    rows: tuple[Prompt, ...] = ()
    words: tuple[str, ...] = ()
    length: int = 0  # words in a prompt, behind the first

    @property
    def source(self) -> str:
        """What they are, for a report."""
        options = self.options
        made = f"made prompts of {options.prompt_tokens} tokens, answers of {options.output_tokens}"
        further = "" if options.parameters == "{}" else f", {options.parameters}"
        return (options.prompts.name if options.prompts else made) + further

    def payload(self, load: Load) -> Payload:
        """Encode the requests of a run."""
        return encode(self, self.rows or self.made(_MOST if load.due is None else min(len(load.due), _MOST)))

    def made(self, count: int) -> list[Prompt]:
        """Make a number of prompts, other ones every time."""
        drawn = np.random.default_rng().choice(self.words, (count, self.length)).tolist()
        return [Prompt(" ".join([FIRST_WORD, *words]), self.options.output_tokens) for words in drawn]


def read_prompts(file: Path, output_tokens: int) -> tuple[Prompt, ...]:
    """Read a JSON Lines file; raises InvalidInput that names the line which is no prompt."""
    try:
        lines = [line for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--prompts {file}: {error}") from error
    if not lines:
        raise InvalidInput(f"--prompts {file}: expected a prompt on each line, got an empty file")
    return tuple(_row(f"{file}, line {number}", line, output_tokens) for number, line in enumerate(lines, start=1))


def _row(place: str, line: str, output_tokens: int) -> Prompt:
    try:
        row = json.loads(line)
        text, count = row.get("prompt", row.get("text")), row.get("output_tokens", output_tokens)
    except (ValueError, AttributeError):
        text = count = None
    if not isinstance(text, str) or not text or not isinstance(count, int) or count < 1:
        example = '{"prompt": "…"}, or "text" in its place, and "output_tokens": N above 0 if wanted'
        raise InvalidInput(f"{place}: expected {example}; got {line:.80}")
    return Prompt(text, count)


def parameters_of(options: PromptOptions) -> dict[str, Any]:
    """The further sampling parameters; raises InvalidInput where they are no JSON object."""
    try:
        parameters = json.loads(options.parameters)
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise InvalidInput(f"""--parameters: expected a JSON object as '{{"top_p": 0.9}}', got {options.parameters}""")
    return parameters


def encode(prompts: Prompts, rows: Sequence[Prompt]) -> Payload:
    """Encode prompts as requests for streams of exactly as many tokens as they say."""
    model, options, further = prompts.model, prompts.options, parameters_of(prompts.options)
    asked = [
        (row.text, {"max_tokens": row.output_tokens, "temperature": 0, "ignore_eos": True} | further) for row in rows
    ]
    generations = [_generation(model, text, parameters) for text, parameters in asked]
    if prompts.stream == "grpc":
        bodies = tuple(bytes(one.message().SerializeToString()) for one in generations)
        path = ""
    elif prompts.stream == "http":
        bodies = tuple(json.dumps(one.inputs).encode() for one in generations)
        path = generations[0].path.removeprefix("/")
    else:
        bodies = tuple(_openai_body(model, text, parameters, options.chat) for text, parameters in asked)
        path = f"v1/{'chat/' * options.chat}completions"
    return Payload(model, prompts.source, bodies, _JSON, 0, path, prompts.stream)


def _generation(model: str, text: str, parameters: dict[str, Any]) -> Generation:
    flags: dict[str, str | bool] = dict.fromkeys(
        ("stream", "return_num_input_tokens", "return_num_output_tokens"), True
    )
    return Generation(model, "", {"text_input": text, "sampling_parameters": json.dumps(parameters), **flags})


def _openai_body(model: str, text: str, parameters: dict[str, Any], chat: bool) -> bytes:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
    # Usage with every event is vLLM's extension; a server without it counts at the end.
    usage = {"include_usage": True, "continuous_usage_stats": True}
    return json.dumps({"model": model, **asked, **parameters, "stream": True, "stream_options": usage}).encode()
