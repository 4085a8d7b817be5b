"""A conversation as the text that a language model continues: its chat template, rendered.

Triton knows texts only, so clients render. The template is Jinja, as in the model's tokenizer. Whoever is far from the
model's folder finds it in the model's config, in the parameter CHAT_TEMPLATE.
"""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from clients.contract import Contract
from clients.errors import InvalidInput

# {"role": "user", "content": "Why is the sea salty?"}
Message = Mapping[str, Any]
TEMPLATE, BEGIN, END = "CHAT_TEMPLATE", "BOS_TOKEN", "EOS_TOKEN"  # parameters of a model's config


def read_template(path: Path | None) -> str:
    """A template from a file; empty without one.

    Raises:
        InvalidInput: it is no file with a text.
    """
    if path is None:
        return ""
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"--chat-template: expected a text in UTF-8 in {path} ({error})") from error
    raise InvalidInput(f"--chat-template: there is no file {path}")


def prompt_from(contract: Contract, messages: Sequence[Message], template: str = "") -> str:
    """Render messages so that the model's answer comes next, with its own template or another one.

    Raises:
        InvalidInput: the model has no template, or the messages do not fit it.
    """
    import jinja2

    template = template or contract.parameters.get(TEMPLATE, "")
    if not template:
        raise InvalidInput(
            f"{contract.model} has no chat template; set the parameter {TEMPLATE} in its config.pbtxt, give one with "
            "--chat-template, or send a text instead of messages"
        )
    # Usually none for the beginning: most tokenizers put it in front of every text by themselves.
    tokens = {name.lower(): contract.parameters.get(name, "") for name in (BEGIN, END)}
    try:
        return str(_compiled(template).render(messages=messages, add_generation_prompt=True, **tokens))
    except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
        raise InvalidInput(f"the messages do not fit the chat template of {contract.model}: {error}") from error


@functools.lru_cache
def _compiled(template: str) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # As transformers has it, for which templates are written.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": datetime.now().astimezone().strftime}
    return environment.from_string(template)


def _refuse(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)
