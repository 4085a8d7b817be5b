"""Have a served language model continue a text, or answer a question: `python -m clients.generate PROMPT`.

The text is printed as it comes. Ctrl-C ends the generation on the server too.

    python -m clients.generate "The sea is" --max-tokens 32
    python -m clients.generate "Why is the sea salty?" --chat --system "Answer in one sentence."
    python -m clients.generate "Once upon a time" --sampling temperature=0.8 --sampling seed=7 --json
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.chat import Message, read_template
from clients.client import Client
from clients.command import command, command_parser, positive, print_json, say
from clients.connection import add_connection_arguments, connection_from
from clients.generation import Chunk


@dataclass(frozen=True)
class _Timed:
    """A piece of the answer, and when it came, in seconds after the request."""

    chunk: Chunk
    at: float


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("clients.generate", __doc__)
    parser.add_argument("prompt", metavar="PROMPT", help="the text to continue, or the question")
    parser.add_argument("--model", default="smollm2", help="(default: %(default)s)")
    parser.add_argument("--chat", action="store_true", help="put the prompt into the model's chat template")
    parser.add_argument("--system", metavar="TEXT", help="a system message in front of it; means --chat")
    text = "Jinja, in place of the one in the model's config; means --chat"
    parser.add_argument("--chat-template", type=Path, metavar="FILE", help=text)
    text = "print the text as it comes (default), or once it is complete"
    parser.add_argument("--stream", action=argparse.BooleanOptionalAction, default=True, help=text)
    parser.add_argument("--max-tokens", type=positive, default=256, metavar="N", help="(default: %(default)s)")
    text = "a further parameter, as vLLM names it: temperature=0.8, top_p, top_k, seed, stop …"
    parser.add_argument("--sampling", type=_parameter, action="append", default=[], metavar="NAME=VALUE", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the text")
    add_connection_arguments(parser, timeout_s=300)
    return parser


def _parameter(text: str) -> tuple[str, Any]:
    """NAME=VALUE, where a value is JSON if it can be read as such, else a text."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got '{text}'")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _prompt(arguments: argparse.Namespace) -> str | list[Message]:
    if not (arguments.chat or arguments.system or arguments.chat_template):
        return str(arguments.prompt)
    system = [{"role": "system", "content": arguments.system}] if arguments.system else []
    return [*system, {"role": "user", "content": arguments.prompt}]


def _generate(arguments: argparse.Namespace) -> list[_Timed]:
    template = read_template(arguments.chat_template)
    sampling = {"max_tokens": arguments.max_tokens, **dict(arguments.sampling)}
    timed, began = [], time.monotonic()
    with Client(connection_from(arguments)) as client:
        for chunk in client.generate(
            arguments.model, _prompt(arguments), stream=arguments.stream, chat_template=template, **sampling
        ):
            timed.append(_Timed(chunk, time.monotonic() - began))
            if not arguments.json:
                print(chunk.text, end="", flush=True)
    return timed


def _document(model: str, timed: Sequence[_Timed]) -> dict[str, Any]:
    last, tokens = timed[-1], [token for each in timed for token in each.chunk.tokens]
    logprobs = {"logprobs": [[token.text, token.logprob] for token in tokens]} if tokens else {}
    return {
        "model": model,
        "text": "".join(each.chunk.text for each in timed),
        "finish_reason": last.chunk.finish_reason,
        "input_tokens": last.chunk.input_tokens,
        "output_tokens": sum(each.chunk.output_tokens for each in timed),
        "first_s": round(timed[0].at, 4),
        "seconds": round(last.at, 4),
        **logprobs,
    }


@command()
def main() -> int:
    """Print what the model writes."""
    arguments = _parser().parse_args()
    document = _document(arguments.model, _generate(arguments))
    if arguments.json:
        print_json(document)
        return 0
    print()
    speed = (
        f"{document['output_tokens'] / document['seconds']:.0f} tokens/s, the first after {document['first_s']:.2f} s"
    )
    say(f"{document['input_tokens']} + {document['output_tokens']} tokens, {speed}; {document['finish_reason']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
