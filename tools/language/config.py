"""A language model's config.pbtxt: written where there is none, and proven to let clients send chats as it knows them.

Clients are far from the tokenizer: they render a chat with the chat template that they find in the config, and the
server's tokenizer splits that text.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.chat import BEGIN, END, TEMPLATE, Message, prompt_from
from clients.command import say
from clients.contract import Contract
from clients.output import write_atomically
from tools.language import LanguageError
from tools.language.network import read_tokenizer
from tools.language.source import Source
from tools.repository import config_path

_CHAT: Sequence[Message] = (
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "The Nile."},
    {"role": "user", "content": "Another one?"},
)


def write_missing_config(model: str, source: Source, repository: Path) -> None:
    """Write config.pbtxt for weights, unless there is one.

    Raises:
        LanguageError: the tokenizer cannot be read, or has no chat template.
    """
    path = config_path(model, repository=repository)
    if path.exists():
        return
    text = Path(__file__).with_name("template.pbtxt").read_text().replace("NAME", model)
    parameters = [_parameter(name, value) for name, value in _needed(read_tokenizer(source.path)).items()]
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, text + "".join(parameters))
    say(f"{model}: wrote {path}, which is yours from now on")


def _parameter(name: str, value: str) -> str:
    # JSON escapes what text of protobuf does; texts side by side are one.
    lines = [f"      {json.dumps(line, ensure_ascii=False)}\n" for line in value.splitlines(keepends=True)]
    return f'parameters {{\n  key: "{name}"\n  value {{\n    string_value:\n{"".join(lines)}  }}\n}}\n'


def prove_chat(contract: Contract, tokenizer: Any, title: str) -> None:
    """Have clients and a tokenizer of transformers make the same tokens of a chat.

    Raises:
        LanguageError: they do not.
    """
    needed = _needed(tokenizer)
    if wrong := [name for name, value in needed.items() if contract.parameters.get(name) != value]:
        raise LanguageError(
            f"{contract.model}: in config.pbtxt, {' and '.join(wrong)} is not what {title} has: "
            f"{needed[wrong[0]]!r:.200}; correct it, or remove config.pbtxt and have it written anew"
        )
    for chat in (_CHAT[:1], _CHAT):
        rendered = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
        expected = tokenizer.encode(rendered, add_special_tokens=False)
        if (actual := tokenizer.encode(prompt_from(contract, chat))) != expected:
            raise LanguageError(f"{contract.model}: clients send a chat as {actual}, transformers as {expected}")


def _needed(tokenizer: Any) -> dict[str, str]:
    """Parameters of the config; of the beginning only where the tokenizer does not put it there by itself."""
    template, tokens = str(tokenizer.get_chat_template()), {END: tokenizer.eos_token}
    if tokenizer.encode("a")[0] != tokenizer.bos_token_id:
        tokens[BEGIN] = tokenizer.bos_token
    return {TEMPLATE: template} | {name: text for name, text in tokens.items() if text and name.lower() in template}
