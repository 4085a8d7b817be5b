"""Text from a language model over both protocols, synchronous and asyncio, and `python -m clients.generate`."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from clients.aio import AsyncClient
from clients.client import Client
from clients.connection import Connection, Protocol
from clients.errors import DeadlineExceeded, InvalidInput, ModelNotFound, RequestRejected
from clients.generation import Chunk
from tests.conftest import Command, connection_to
from tests.e2e.language import LONG, MODEL, ended, idle, leaving
from tests.e2e.peers import STYLES
from tools.repository import ROOT
from tools.serve.tritonserver import Server

Ask = Callable[..., list[Chunk]]
SEA = "The sea is salty because"
GREEDY = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
QUESTION = [{"role": "user", "content": "Why is the sea salty?"}]


@pytest.fixture
def spoken(language_server: Server, protocol: Protocol) -> Connection:
    return connection_to(language_server, protocol)


@pytest.fixture(params=STYLES)
def ask(request: pytest.FixtureRequest, spoken: Connection) -> Ask:
    """The chunks of a generation, at most so many of them: the loop is left after that."""
    if request.param == "sync":
        return lambda *arguments, most=10**6, **options: asked(spoken, most, *arguments, **options)
    return lambda *arguments, most=10**6, **options: asyncio.run(asked_aio(spoken, most, *arguments, **options))


def asked(connection: Connection, most: int, *arguments: Any, **options: Any) -> list[Chunk]:
    chunks = []
    with Client(connection) as client:
        for chunk in client.generate(*arguments, **options):
            chunks.append(chunk)
            if len(chunks) == most:
                break
    return chunks


async def asked_aio(connection: Connection, most: int, *arguments: Any, **options: Any) -> list[Chunk]:
    chunks = []
    async with AsyncClient(connection) as client:
        async for chunk in client.generate(*arguments, **options):
            chunks.append(chunk)
            if len(chunks) == most:
                break
    return chunks


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_pieces_come_as_they_are_made_and_are_the_whole_answer(ask: Ask) -> None:
    pieces, (whole,) = ask(MODEL, SEA, **GREEDY), ask(MODEL, SEA, stream=False, **GREEDY)
    assert text(pieces) == whole.text != ""
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert sum(piece.output_tokens for piece in pieces) == whole.output_tokens == 12
    assert {piece.input_tokens for piece in pieces} == {whole.input_tokens} and 3 < whole.input_tokens < 24
    assert whole.finish_reason == "length"


def test_leaving_the_loop_ends_the_generation_on_the_server(ask: Ask, language_server: Server) -> None:
    with leaving(language_server):
        assert len(ask(MODEL, SEA, most=4, **LONG)) == 4


def test_messages_go_through_the_models_own_template(ask: Ask) -> None:
    rendered = (
        "<|im_start|>system\nAnswer in one word.<|im_end|>\n"
        "<|im_start|>user\nWhy is the sea salty?<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [{"role": "system", "content": "Answer in one word."}, *QUESTION]
    assert text(ask(MODEL, messages, **GREEDY)) == text(ask(MODEL, rendered, **GREEDY))
    template = "{{ messages[0].content }}"
    assert text(ask(MODEL, QUESTION, chat_template=template, **GREEDY)) == text(
        ask(MODEL, "Why is the sea salty?", **GREEDY)
    )


def test_several_answers_come_side_by_side(ask: Ask) -> None:
    chunks = ask(MODEL, SEA, n=2, temperature=1.0, seed=3, max_tokens=8, ignore_eos=True)
    assert {chunk.index for chunk in chunks} == {0, 1}
    for index in (0, 1):
        own = [chunk for chunk in chunks if chunk.index == index]
        assert sum(chunk.output_tokens for chunk in own) == 8
        assert [chunk.finish_reason for chunk in own if chunk.finish_reason] == ["length"]


def test_what_the_engine_refuses_is_said_in_its_words(ask: Ask) -> None:
    with pytest.raises(RequestRejected, match="max_tokens"):
        ask(MODEL, SEA, max_tokens=-1)
    with pytest.raises(RequestRejected, match="no_such_parameter"):
        ask(MODEL, SEA, no_such_parameter=1)
    with pytest.raises(ModelNotFound, match="'no_such_model' is not"):
        ask("no_such_model", SEA)
    with pytest.raises(InvalidInput, match="a parameter cannot be sent"):
        ask(MODEL, SEA, temperature=float("nan"))


def test_a_deadline_is_for_the_whole_answer_and_ends_it(spoken: Connection, language_server: Server) -> None:
    hurried = Connection(spoken.protocol, spoken.url, timeout_s=0.8)
    for ask in (
        lambda: asked(hurried, 10**6, MODEL, SEA, **LONG),
        lambda: asyncio.run(asked_aio(hurried, 10**6, MODEL, SEA, **LONG)),
    ):
        began = time.monotonic()
        with leaving(language_server), pytest.raises(DeadlineExceeded):
            ask()
        assert time.monotonic() - began > 0.7


def test_threads_share_a_client_and_each_gets_the_answer_that_its_prompt_gets_alone(spoken: Connection) -> None:
    prompts = [f"{number} plus one is" for number in ("One", "Two", "Three", "Four")]
    with Client(spoken) as client, ThreadPoolExecutor(len(prompts)) as pool:
        alone = [text(list(client.generate(MODEL, prompt, **GREEDY))) for prompt in prompts]
        assert list(pool.map(lambda prompt: text(list(client.generate(MODEL, prompt, **GREEDY))), prompts)) == alone


def test_a_hundred_streams_that_are_left_at_any_moment_leave_nothing_running(language_server: Server) -> None:
    async def leave(client: AsyncClient, number: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(number % 20 / 50):
                async for _ in client.generate(MODEL, f"{number} {SEA}", **LONG):
                    pass

    async def leave_all() -> None:
        async with AsyncClient(connection_to(language_server, "grpc")) as client:
            await asyncio.gather(*(leave(client, number) for number in range(100)))

    before = ended(language_server)
    asyncio.run(leave_all())
    # The host may be busy; but what is not cancelled runs to its end.
    idle(language_server, 60)
    assert ended(language_server) == before
    language_server.check()


def test_the_command_prints_the_text_as_it_comes_or_one_document(command: Command, language_server: Server) -> None:
    options = (
        "--max-tokens",
        "12",
        "--sampling",
        "temperature=0",
        "--sampling",
        "ignore_eos=true",
        "--protocol",
        "grpc",
    )
    streamed = command("clients.generate", SEA, *options, server=language_server)
    assert streamed.returncode == 0, streamed.stderr
    assert re.search(r" tokens/s, the first after \d+\.\d.*; length\n$", streamed.stderr)
    document = json.loads(
        command("clients.generate", SEA, *options, "--no-stream", "--json", server=language_server).stdout
    )
    assert streamed.stdout == document["text"] + "\n"
    assert (document["model"], document["output_tokens"], document["finish_reason"]) == (MODEL, 12, "length")


def test_ctrl_c_ends_the_command_and_the_generation(language_server: Server) -> None:
    line = [sys.executable, "-m", "clients.generate", SEA, "--max-tokens", "8000", "--sampling", "ignore_eos=true"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with leaving(language_server):
        with subprocess.Popen([*line, "--url", language_server.http], cwd=ROOT, **pipes) as process:
            assert process.stdout and process.stdout.read(10)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, "interrupted; stopped\n")
