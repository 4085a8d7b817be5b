"""Prompts of an exact number of tokens, without the model's tokenizer: the server says which words are one token.

Tokenizers split a text at its blanks first, so the tokens of words behind blanks add up.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clients.connection import Connection
from clients.errors import InvalidInput, ServerFailed
from loadtest.generator.http_lane import http_target
from loadtest.generator.lane import Target
from loadtest.generator.process import Order, send_all
from loadtest.load import Load
from loadtest.payloads import Payload
from loadtest.prompts import FIRST_WORD, Prompt, Prompts, encode

# Common enough to be one token of nearly every English vocabulary.
_COMMON = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother area
    money story fact month lot right study book eye job word business issue side kind head house service friend father
    power hour game line end member law car city community name president team minute idea body information back parent
    face others level office door health person art war history party result change morning reason research girl moment
    air teacher force education foot boy age policy process music market sense nation plan college interest death
    experience effect use class control field development role effort rate heart drug show leader light voice
"""
_WORDS = tuple(_COMMON.split())
_FEWEST = 16  # words, below which prompts would be too much alike


def target_of(connection: Connection, payload: Payload) -> Target:
    """Make a target of a payload in either protocol."""
    if connection.protocol == "http":
        return http_target(connection, payload)
    return Target(connection, payload.bodies, payload.answer_bytes, payload.stream)


def exact(connection: Connection, prompts: Prompts) -> Prompts:
    """Fill in the words, and how many of them make prompts of as many tokens as the options say.

    Raises:
        InvalidInput: such prompts cannot be made for this model.
        ServerFailed: the server refuses to say how many tokens a prompt has.
    """
    wanted = prompts.options.prompt_tokens
    least, every = count_tokens(connection, prompts, [FIRST_WORD, " ".join([FIRST_WORD, *_WORDS])])
    words = _WORDS
    if every - least != len(_WORDS):
        counts = count_tokens(connection, prompts, [f"{FIRST_WORD} {word}" for word in _WORDS])
        words = tuple(word for word, count in zip(_WORDS, counts, strict=True) if count == least + 1)
    if len(words) < _FEWEST:
        raise InvalidInput(
            f"{prompts.model}: only {len(words)} of {len(_WORDS)} words are one token; give --prompts FILE"
        )
    if wanted < least:
        raise InvalidInput(f"--prompt-tokens {wanted}: the shortest prompt of {prompts.model} has {least} tokens")
    return replace(prompts, words=words, length=wanted - least)


def count_tokens(connection: Connection, prompts: Prompts, texts: Sequence[str]) -> list[int]:
    """Ask the server how many tokens prompts have, its template included; each is answered with one token."""
    target = target_of(connection, encode(prompts, [Prompt(text, 1) for text in texts]))
    at_once = Load(None, None, np.zeros(len(texts)), 0, 1.0)
    sent = send_all(Order(target, at_once, 8, connection.timeout_s), 1)
    for kind in sent.records.failures():
        raise ServerFailed(f"{prompts.model} at {connection.url}: {kind}")
    assert sent.records.streams is not None
    counts = [stream.prompt_tokens for stream in sent.records.streams]
    if not all(counts):
        raise ServerFailed(f"{prompts.model} at {connection.url} does not say how many tokens a prompt has")
    return counts
