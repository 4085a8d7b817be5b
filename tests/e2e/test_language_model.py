"""A language model behind the stand-in for NVIDIA's vLLM backend: who joins, who leaves, what is refused."""

import asyncio
import json
import random
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc.aio as grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from tests.conftest import served
from tests.e2e.language import MODEL
from tests.language.asking import BEGINNINGS, Answered, add_copy, answer, asked, messages, metrics
from tests.language.mixed import run
from tests.waiting import settled, soon
from tools.repository import ROOT, version_path, versions
from tools.serve.tritonserver import Options, Server

LM, SHORT = "lm", {"max_tokens": 24, "temperature": 0}
SHORT_ANSWER = "<|im_start|>user\nWhat is 1 + 1? Answer in one word.<|im_end|>\n<|im_start|>assistant\n"
LENGTH = 2048
LONGEST = {"max_tokens": LENGTH - 32, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def serving(language_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a copy whose KV cache holds four long texts, and of one whose steps are always too long."""
    folder = tmp_path_factory.mktemp("language")

    def small(config: ModelConfig) -> None:
        config.parameters["KV_CACHE_TOKENS"].string_value = str(4 * LENGTH)

    def stalling(config: ModelConfig) -> None:
        config.parameters["ENGINE_STALL_SECONDS"].string_value = "0.0002"

    for name, change in ((LM, small), ("stalling", stalling)):
        add_copy(MODEL, folder, name, change, language_models, max_model_len=LENGTH, max_num_seqs=16)
    with served(Options(folder)) as running:
        yield running


def one(
    server: Server,
    prompt: str,
    stream: bool = True,
    inputs: dict[str, bool] | None = None,
    model: str = LM,
    **sampling: Any,
) -> Answered:
    """The answer to one request; its exception is raised."""
    (answered,) = asked(server.grpc, lambda client: answer(client, model, prompt, stream, inputs, **sampling))
    if isinstance(answered, BaseException):
        raise answered
    assert isinstance(answered, Answered)
    return answered


def test_every_answer_is_what_the_same_prompt_gets_alone(serving: Server) -> None:
    lengths = [8 + 5 * number for number in range(len(BEGINNINGS))]
    alone = [one(serving, text, max_tokens=most, temperature=0) for text, most in zip(BEGINNINGS, lengths, strict=True)]
    calls = [
        partial(answer, model=LM, prompt=text, stream=bool(number % 3), max_tokens=most, temperature=0)
        for number, (text, most) in enumerate(zip(BEGINNINGS, lengths, strict=True))
    ]
    together = asked(serving.grpc, *calls, *calls)
    for number, (before, after) in enumerate(zip([*alone, *alone], together, strict=True)):
        # Without a stream the prompt comes first, unless it is excluded.
        prompt = "" if number % len(alone) % 3 else BEGINNINGS[number % len(alone)]
        assert after.text == prompt + before.text and after.tokens == before.tokens
        assert after.reasons == before.reasons


def test_a_request_joins_while_another_is_answered(serving: Server) -> None:
    async def joined(client: grpc.InferenceServerClient) -> tuple[int, int]:
        later, count, seen = None, 0, 0
        async for outputs in messages(client, LM, BEGINNINGS[0], True, {}, **LONGEST | {"max_tokens": 700}):
            count += int(outputs["num_output_tokens"][0])
            if count >= 20 and not later:
                later = asyncio.create_task(answer(client, LM, BEGINNINGS[1], max_tokens=8, ignore_eos=True))
            if later and later.done() and not seen:
                seen = count
        return seen, count

    ((seen, count),) = asked(serving.grpc, joined)
    assert 20 < seen < 600 < count


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_whoever_goes_away_frees_the_cache(serving: Server, way: str) -> None:
    """Four callers fill the cache; a fifth waits until one of them has gone, else until one has its last token."""

    async def leave_and_ask(client: grpc.InferenceServerClient) -> None:
        leave = _leave_http if way == "http" else _leave_grpc
        await asyncio.gather(*(leave(serving, client) for _ in range(4)))
        await answer(client, LM, BEGINNINGS[1], max_tokens=1)

    before = settled(lambda: _endings(serving), pause=1.6)
    assert asked(serving.grpc, leave_and_ask) == [None]
    # The fifth one has its only token, and none of the others its last one.
    assert soon(lambda: _endings(serving) == (before[0] + 4, before[1] + 1))
    assert _idle(serving)["kv_cache_usage_perc"] == 0


def _endings(server: Server) -> tuple[float, float]:
    """How many generations have ended because nobody waited for them, and how many with their last token."""
    now = metrics(server.metrics, LM)
    return now.get("request_success_total[abort]", 0), now.get("request_success_total[length]", 0)


async def _leave_grpc(server: Server, client: grpc.InferenceServerClient) -> None:
    async for _ in messages(client, LM, BEGINNINGS[0], True, {}, **LONGEST):
        break


async def _leave_http(server: Server, client: grpc.InferenceServerClient) -> None:
    host, port = server.http.rsplit(":", 1)
    body = json.dumps({"text_input": BEGINNINGS[0], "stream": True, **LONGEST}).encode()
    head = f"POST /v2/models/{LM}/generate_stream HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + body)
    await reader.readuntil(b"data:")
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()


def _idle(server: Server) -> dict[str, float]:
    """The metrics once nothing runs."""

    def is_idle() -> bool:
        now = metrics(server.metrics, LM)
        return not now["num_requests_running"] and not now["kv_cache_usage_perc"]

    assert soon(is_idle), metrics(server.metrics, LM)
    return metrics(server.metrics, LM)


@pytest.mark.parametrize("start", [9, 20, 33])
def test_a_stop_string_ends_the_text_wherever_its_tokens_lie(serving: Server, start: int) -> None:
    whole = one(serving, BEGINNINGS[0], max_tokens=40, temperature=0).text
    stop = whole[start : start + 9]
    before = whole[: whole.index(stop)]
    sampling = {"max_tokens": 40, "temperature": 0, "stop": ["never in it", stop]}
    streamed = one(serving, BEGINNINGS[0], **sampling)
    assert (streamed.text, streamed.reasons) == (before, ["stop"])
    assert (
        one(serving, BEGINNINGS[0], stream=False, inputs={"exclude_input_in_output": True}, **sampling).text == before
    )
    assert one(serving, BEGINNINGS[0], include_stop_str_in_output=True, **sampling).text == before + stop
    assert streamed.tokens[0] < 40


def test_streamed_characters_are_whole(serving: Server) -> None:
    """At this temperature most tokens are no whole characters, and the text is full of marks for what is broken."""
    sampling = {"max_tokens": 40, "temperature": 50, "seed": 1, "ignore_eos": True}
    streamed = one(serving, "日本語", **sampling)
    whole = one(serving, "日本語", stream=False, inputs={"exclude_input_in_output": True}, **sampling)
    assert streamed.text == whole.text and len(streamed.messages) > 20
    assert any(ord(letter) > 255 for letter in streamed.text)


def test_a_seed_repeats_a_text_and_answers_differ(serving: Server) -> None:
    sampling = {"max_tokens": 12, "temperature": 1.5, "n": 3, "ignore_eos": True}
    first, second = (one(serving, BEGINNINGS[5], seed=7, **sampling) for _ in range(2))
    assert first.texts == second.texts and len(set(first.texts)) == 3
    assert one(serving, BEGINNINGS[5], **sampling).texts != one(serving, BEGINNINGS[5], **sampling).texts
    assert first.tokens == [12, 12, 12] and first.reasons == ["length"] * 3


def test_logarithms_of_probabilities_are_told_where_asked_for(serving: Server) -> None:
    told = one(serving, BEGINNINGS[1], logprobs=1, **SHORT)
    entries = [entry for message in told.messages for entry in json.loads(message["logprobs"][0])]
    chosen = [next(iter(entry.values())) for entry in entries]
    assert "".join(entry["decoded_token"] for entry in chosen).startswith(told.text[:20])
    assert all(entry["logprob"] < 0 and entry["rank"] == 1 for entry in chosen)
    total = float(told.messages[-1]["cumulative_logprob"][0])
    assert total == pytest.approx(sum(entry["logprob"] for entry in chosen), rel=1e-3)
    assert one(serving, BEGINNINGS[1], **SHORT).messages[0]["logprobs"][0] == b"null"
    # They are the network's own, whatever is done before one is drawn.
    drawn = one(serving, BEGINNINGS[1], logprobs=0, max_tokens=1, top_k=1, temperature=0.1, seed=1).messages
    (first,) = json.loads(drawn[0]["logprobs"][0])[0].values()
    assert first["logprob"] == pytest.approx(chosen[0]["logprob"], rel=1e-3) and first["rank"] is None


def test_penalties_and_minimum_change_the_text(serving: Server) -> None:
    plain = one(serving, BEGINNINGS[6], max_tokens=40, temperature=0)
    assert one(serving, BEGINNINGS[6], max_tokens=40, temperature=0, repetition_penalty=1.9).text != plain.text
    assert one(serving, BEGINNINGS[6], max_tokens=40, temperature=0, frequency_penalty=2.0).text != plain.text
    stop = {"max_tokens": 40, "temperature": 0, "stop": plain.text[8:10]}
    assert (
        one(serving, BEGINNINGS[6], **stop).tokens[0]
        < 12
        < one(serving, BEGINNINGS[6], min_tokens=12, **stop).tokens[0]
    )


WRONG = {
    "max_tokens: expected an integer of at least 1, or null, got 0": {"max_tokens": 0},
    'max_tokens: expected an integer of at least 1, or null, got "many"': {"max_tokens": "many"},
    "min_tokens: expected at most max_tokens=2, got 3": {"max_tokens": 2, "min_tokens": 3},
    "temperature: expected a number of at least 0, got -1": {"temperature": -1},
    "top_p: expected a number above 0 and at most 1, got 0": {"top_p": 0},
    "top_k: expected an integer of at least 1, or 0 or -1 for all tokens, got -2": {"top_k": -2},
    "seed: expected an integer of 64 bits, or null, got 1e+30": {"seed": 1e30},
    "presence_penalty: expected a number from -2 to 2, got 2.5": {"presence_penalty": 2.5},
    "repetition_penalty: expected a number above 0, got 0": {"repetition_penalty": 0},
    'stop: expected a text or a list of texts, none empty, got [""]': {"stop": [""]},
    'ignore_eos: expected true or false, got "maybe"': {"ignore_eos": "maybe"},
    "logprobs: expected 0 (this engine tells the chosen token's alone), or 1 with temperature 0": {"logprobs": 5},
    "no penalties and no min_tokens, got 1": {"logprobs": 1, "temperature": 0, "repetition_penalty": 1.1},
    "n: expected 1 with temperature 0": {"n": 2, "temperature": 0},
    "n: expected at most 16 (max_num_seqs), got 17": {"n": 17},
    "temprature: this engine has no such sampling parameter; did you mean temperature": {"temprature": 1},
    "LoRA feature is not enabled": {"lora_name": "poet"},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_parameter_is_refused_in_words(serving: Server, message: str) -> None:
    with pytest.raises(InferenceServerException) as refused:
        one(serving, "Hello", **WRONG[message])
    assert message in str(refused.value) and "Error generating stream" in str(refused.value)


def test_what_cannot_fit_is_refused_with_both_numbers(serving: Server) -> None:
    with pytest.raises(InferenceServerException, match=f"the prompt has [0-9]+ tokens.*max_model_len={LENGTH}"):
        one(serving, " time" * (LENGTH + 50))
    with pytest.raises(InferenceServerException, match="When streaming, `exclude_input_in_output` = False"):
        one(serving, "Hello", inputs={"exclude_input_in_output": False})
    cut = one(serving, " time" * (LENGTH - 50), max_tokens=100, temperature=0, ignore_eos=True)
    assert cut.tokens[0] + int(cut.messages[0]["num_input_tokens"][0]) == LENGTH


def _failures(server: Server) -> float:
    with urllib.request.urlopen(f"http://{server.http}/v2/models/{LM}/stats") as response:
        stats = json.load(response)["model_stats"][0]["inference_stats"]
    return float(stats["fail"]["count"])


def test_refusals_count_as_failures(serving: Server) -> None:
    before = settled(lambda: _failures(serving))
    for _ in range(3):
        with pytest.raises(InferenceServerException):
            one(serving, "Hello", top_p=2)
    # Triton counts a request after it has answered it.
    assert soon(lambda: _failures(serving) == before + 3)


def test_generate_over_http_takes_parameters_of_every_kind(serving: Server) -> None:
    def generate(**fields: Any) -> Any:
        body = json.dumps({"text_input": BEGINNINGS[1], "exclude_input_in_output": True, **fields}).encode()
        with urllib.request.urlopen(f"http://{serving.http}/v2/models/{LM}/generate", body) as response:
            return json.load(response)

    expected = one(serving, BEGINNINGS[1], **SHORT).text
    assert generate(max_tokens=24, temperature=0, ignore_eos=False)["text_output"] == expected
    assert generate(max_tokens="24", temperature="0.0")["text_output"] == expected
    with pytest.raises(urllib.error.HTTPError) as refused:
        generate(top_p=7)
    assert refused.value.code == 400 and "top_p: expected" in refused.value.read().decode()


def test_mixed_requests_some_left_some_refused_leave_nothing(serving: Server) -> None:
    endings = asyncio.run(run(serving, 40, 12, random.Random(0), BEGINNINGS[:2])).endings
    assert set(endings) == {"equal", "left", "refused"} and endings.total() == 40
    assert _idle(serving)["num_requests_waiting"] == 0


def test_metrics_have_the_names_of_vllm(serving: Server) -> None:
    one(serving, BEGINNINGS[0], max_tokens=8, ignore_eos=True)
    assert soon(lambda: metrics(serving.metrics, LM).get("request_success_total[length]", 0) > 0)
    now = _idle(serving)
    assert now["time_to_first_token_seconds_count"] == now["time_to_first_token_seconds_bucket[+Inf]"] > 0
    assert now["generation_tokens_total"] > now["request_success_total[length]"] > 0
    assert now["request_queue_time_seconds_sum"] >= 0 and now["prompt_tokens_total"] > 0
    shown = re.findall(r"vllm:(\w+)", (ROOT / "deploy/grafana/dashboards/language-models.json").read_text())
    assert len(shown) > 8 and {name.split("[")[0] for name in now} >= set(shown)


def test_an_engine_that_does_not_finish_a_step_makes_its_model_unready(serving: Server, tmp_path: Path) -> None:
    (failed,) = asked(serving.grpc, lambda client: answer(client, "stalling", " time" * 200, **LONGEST))
    assert "Model is unavailable due to unhealthy engine: a step has taken longer than 0.0002 s" in str(failed)
    assert soon(lambda: not _is_ready(serving, "stalling"))
    assert _is_ready(serving, LM)


def _is_ready(server: Server, model: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{server.http}/v2/models/{model}/ready") as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError:
        return False


def test_the_exported_model_is_served_as_it_was_proven(trained_language_server: Server) -> None:
    """Its golden answers; and it ends an answer by itself, unless it must not."""
    server = trained_language_server
    golden = json.loads((version_path(MODEL, versions(MODEL)[-1]) / "golden.json").read_text())
    for case in golden["cases"][:4]:
        said = one(server, case["prompt"], model=MODEL, **golden["sampling_parameters"])
        assert (said.text, int(said.messages[0]["num_input_tokens"][0])) == (case["text"], case["prompt_tokens"])
    short = {"model": MODEL, "max_tokens": 60, "temperature": 0}
    assert one(server, SHORT_ANSWER, **short).reasons == ["stop"]
    assert one(server, SHORT_ANSWER, min_tokens=60, **short).tokens == [60]
