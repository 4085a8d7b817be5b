"""OpenAI's API, as OpenAI's own Python package sees it."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from clients.client import Client
from tests.conftest import Command, connection_to
from tests.e2e.language import LONG, MODEL, leaving
from tests.e2e.serving import FREE_PORTS, add_sleeper, serving
from tests.haproxy import NEEDS_HAPROXY
from tools.front.door import Front
from tools.front.keys import add_key
from tools.front.options import Backend, FrontOptions
from tools.ports import choose_ports
from tools.repository import read_config
from tools.serve.router_process import router_process, web_application
from tools.serve.tritonserver import Server

QUESTION: Any = [{"role": "user", "content": "Why is the sea salty?"}]
GREEDY: Any = {"temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}
ENDLESS: Any = {"max_tokens": LONG["max_tokens"], "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def url(language_server: Server) -> Iterator[str]:
    """The base of the API in front of the language model's server."""
    with web_application("127.0.0.1", 0, language_server.http, language_server.grpc) as running:
        assert running
        yield running.openai_url


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def answer(language_server: Server) -> str:
    """What the model answers to the question, over gRPC."""
    with Client(connection_to(language_server, "grpc")) as client:
        chunks = client.generate(MODEL, QUESTION, temperature=0, max_tokens=12, ignore_eos=True)
        return "".join(chunk.text for chunk in chunks)


def test_a_chat_is_answered_whole(api: openai.OpenAI, answer: str) -> None:
    completion = api.chat.completions.create(model=MODEL, messages=QUESTION, **GREEDY)
    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", answer, "length")
    assert (
        completion.object == "chat.completion" and completion.model == MODEL and completion.id.startswith("chatcmpl-")
    )
    assert completion.usage and completion.usage.completion_tokens == 12 < completion.usage.prompt_tokens
    assert completion.usage.total_tokens == 12 + completion.usage.prompt_tokens


def test_a_chat_is_streamed_with_its_usage_at_the_end(api: openai.OpenAI, answer: str) -> None:
    usage: Any = {"include_usage": True}
    parts = list(
        api.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, stream_options=usage, **GREEDY)
    )
    *deltas, last = parts
    assert deltas[0].choices[0].delta.role == "assistant" and len(deltas) > 1
    assert "".join(part.choices[0].delta.content or "" for part in deltas) == answer
    assert [part.choices[0].finish_reason for part in deltas] == [None] * (len(deltas) - 1) + ["length"]
    assert last.choices == [] and last.usage and last.usage.completion_tokens == 12
    assert len({part.id for part in parts}) == 1 and {part.object for part in parts} == {"chat.completion.chunk"}


def test_a_text_is_continued_whole_and_streamed(api: openai.OpenAI) -> None:
    whole = api.completions.create(model=MODEL, prompt="One, two, three,", **GREEDY)
    parts = list(api.completions.create(model=MODEL, prompt=["One, two, three,"], stream=True, **GREEDY))
    assert whole.choices[0].text == "".join(part.choices[0].text for part in parts) != ""
    assert whole.choices[0].finish_reason == parts[-1].choices[0].finish_reason == "length"
    assert parts[0].usage is None and whole.usage and whole.usage.completion_tokens == 12


def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(api: openai.OpenAI) -> None:
    text = api.completions.create(model=MODEL, prompt="One, two, three,", **GREEDY).choices[0].text
    stop = text[5:8]
    stopped = api.completions.create(model=MODEL, prompt="One, two, three,", stop=stop, **GREEDY).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(stop)], "stop")


def test_probabilities_of_the_chosen_tokens_are_told(api: openai.OpenAI, answer: str) -> None:
    options: Any = {"model": MODEL, "messages": QUESTION, "logprobs": True, **GREEDY}
    for most in (0, 1):
        (choice,) = api.chat.completions.create(top_logprobs=most, **options).choices
        tokens = choice.logprobs and choice.logprobs.content or []
        assert len(tokens) == 12 and "".join(token.token for token in tokens) == answer
        assert all(token.logprob < 0 for token in tokens)
        assert [len(token.top_logprobs) for token in tokens] == [most] * 12
    told: list[float] = []
    for part in api.completions.create(model=MODEL, prompt="One,", stream=True, logprobs=0, **GREEDY):
        assert part.choices[0].logprobs
        told += part.choices[0].logprobs.token_logprobs or []
    whole = api.completions.create(model=MODEL, prompt="One,", logprobs=0, **GREEDY).choices[0].logprobs
    assert whole and whole.token_logprobs == pytest.approx(told, rel=1e-3) and len(told) == 12


def test_several_answers_are_choices(api: openai.OpenAI) -> None:
    options: Any = {"n": 2, "seed": 3, "max_tokens": 6, "extra_body": {"ignore_eos": True}}
    completion = api.chat.completions.create(model=MODEL, messages=QUESTION, **options)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage and completion.usage.completion_tokens == 12


def test_a_message_may_be_a_list_of_texts(api: openai.OpenAI, answer: str) -> None:
    parts: Any = [
        {"role": "user", "content": [{"type": "text", "text": "Why is the sea "}, {"type": "text", "text": "salty?"}]}
    ]
    assert api.chat.completions.create(model=MODEL, messages=parts, **GREEDY).choices[0].message.content == answer


def test_language_models_are_listed(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == [MODEL] == [api.models.retrieve(MODEL).id]
    with pytest.raises(openai.NotFoundError, match="no_such_model"):
        api.models.retrieve("no_such_model")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("wrong", "words", "parameter"),
    [
        ({"max_tokens": -1}, "max_tokens", None),
        ({"temperature": "hot"}, "temperature", None),
        (
            {"logprobs": True, "top_logprobs": 5},
            "logprobs: expected 0 .this engine tells the chosen token's alone",
            None,
        ),
        ({"tools": [{"type": "function"}]}, "'tools' is not supported", "tools"),
        ({"messages": []}, "at least one message", "messages"),
        ({"messages": "hello"}, "'messages' must be a list", "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "a list of texts",
            "messages[0].content",
        ),
    ],
)
def test_what_cannot_be_asked_is_a_bad_request_in_words(
    wrong: dict[str, Any], words: str, parameter: str | None, streams: bool, api: openai.OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        api.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "stream": streams, **wrong})
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", parameter)


def test_an_unknown_model_is_not_found(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no_such_model") as caught:
        api.chat.completions.create(model="no_such_model", messages=QUESTION)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("path", "body", "status"), [("/completions", b"{", 400), ("/completions", b"[]", 400), ("/embeddings", b"{}", 404)]
)
def test_every_error_has_openais_form(path: str, body: bytes, status: int, url: str) -> None:
    answered = requests.post(url + path, body, timeout=10)
    assert answered.status_code == status
    assert answered.json()["error"].keys() == {"message", "type", "param", "code"}


def test_six_callers_each_get_the_answer_that_they_get_alone(url: str) -> None:
    prompts = [f"{number} times two is" for number in range(6)]

    async def ask_all() -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as api:

            async def ask(prompt: str) -> str:
                completion = await api.completions.create(model=MODEL, prompt=prompt, **GREEDY)
                return completion.choices[0].text

            return [await ask(prompt) for prompt in prompts], await asyncio.gather(*map(ask, prompts))

    alone, together = asyncio.run(ask_all())
    assert together == alone


def test_a_caller_that_goes_away_takes_its_generation_with_it(api: openai.OpenAI, language_server: Server) -> None:
    with (
        leaving(language_server),
        api.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, **ENDLESS) as parts,
    ):
        assert len(list(islice(parts, 5))) == 5
    with leaving(language_server), pytest.raises(openai.APITimeoutError):
        api.with_options(timeout=0.8).chat.completions.create(model=MODEL, messages=QUESTION, **ENDLESS)


def test_the_router_speaks_both_apis_at_one_address(language_server: Server, answer: str) -> None:
    triton = ("--upstream", language_server.http, "--grpc", language_server.grpc)
    own = [word for name in ("--listen", "--listen-grpc", "--control") for word in (name, "127.0.0.1:0")]
    with router_process(*triton, *own) as running:
        listen = f"http://{running.addresses['listen']}"
        assert requests.get(f"{listen}/v2/models/{MODEL}", timeout=10).json()["name"] == MODEL
        with openai.OpenAI(base_url=f"{listen}/v1", api_key="none") as api:
            completion = api.chat.completions.create(model=MODEL, messages=QUESTION, **GREEDY)
        assert completion.choices[0].message.content == answer


@NEEDS_HAPROXY
def test_it_passes_the_front_door_with_its_keys_and_asks_by_way_of_the_door(
    language_server: Server, answer: str, tmp_path: Path
) -> None:
    key, inner = add_key(tmp_path / "keys", "alice", "caller", 0), f"127.0.0.1:{choose_ports('127.0.0.1', [0])[0]}"
    models = [read_config(MODEL, repository=language_server.options.repository)]
    backends = [Backend("replica0", language_server.http, language_server.grpc)]
    places = {"front": "127.0.0.1:0", "operator": "127.0.0.1:0", "inner": inner}
    with web_application("127.0.0.1", 0, language_server.http, inner) as api:
        assert api
        log = tmp_path / "log"
        options = FrontOptions(
            **places, api_keys=tmp_path / "keys", openai=api.addresses["listen"], access_log=log, in_flight=1, queue=1
        )
        (tmp_path / "door").mkdir()
        with Front(tmp_path / "door", options, models, backends) as front:
            url = f"http://{front.address}/v1"
            with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
                parts = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, **GREEDY)
                pieces = [part.choices[0].delta.content or "" for part in parts]
                assert "".join(pieces) == answer and len(pieces) > 1
                assert [model.id for model in client.models.list()] == [MODEL]
                with pytest.raises(openai.PermissionDeniedError):
                    client.embeddings.create(model=MODEL, input="Hi")
                with leaving(language_server):
                    refused_when_full(client)
            with openai.OpenAI(base_url=url, api_key="no") as stranger, pytest.raises(openai.AuthenticationError):
                stranger.models.list()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert {"path": "/v1/chat/completions", "model": MODEL, "client": "alice", "status": 200}.items() <= lines[
        0
    ].items()


def refused_when_full(client: openai.OpenAI) -> None:
    """One runs and one waits; the next is told so, and the first is no longer worked for once its caller has gone."""
    with ThreadPoolExecutor(1) as pool:
        with client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, **ENDLESS) as parts:
            # Pieces pass the door as they are made: this generation has no end.
            assert len(list(islice(parts, 5))) == 5
            with pytest.raises(openai.InternalServerError, match="overloaded or restarting"):
                client.chat.completions.create(model=MODEL, messages=QUESTION, **GREEDY)
            # A busy machine may let it wait for more than the second that the door allows.
            patient = client.with_options(max_retries=3)
            waiting = pool.submit(patient.chat.completions.create, model=MODEL, messages=QUESTION, **GREEDY)
            time.sleep(0.3)
            with pytest.raises(openai.InternalServerError, match="overloaded"):
                client.chat.completions.create(model=MODEL, messages=QUESTION, **GREEDY)
        assert waiting.result().choices[0].message.content


@pytest.fixture
def beside(tmp_path: Path) -> tuple[str | Path, ...]:
    """Arguments of a server that starts in a moment, with the API beside it."""
    return "--repository", add_sleeper(tmp_path / "models"), *FREE_PORTS, "--web-port=0"


def test_a_server_serves_it_while_a_command_runs_and_leaves_nothing_behind(
    beside: tuple[str | Path, ...], tmp_path: Path
) -> None:
    ask = "import openai; print(list(openai.OpenAI(api_key='none').models.list()))"
    with serving(tmp_path / "run", *beside, "--run", f'{sys.executable} -c "{ask}"') as server:
        assert server.line() == "[]"
        assert server.process.wait(60) == 0
    with serving(tmp_path / "killed", *beside) as server:
        assert server.line().split(", ")[-1].split(";")[0].endswith("/v1 (OpenAI's API)")
        server.process.send_signal(signal.SIGKILL)


def test_without_grpc_there_is_no_web_port(beside: tuple[str | Path, ...], command: Command) -> None:
    refused = command("tools.serve", *beside, "--allow-grpc=false", "--run", "true")
    assert refused.returncode == 2 and "--web-port goes through HTTP and gRPC" in refused.stderr
