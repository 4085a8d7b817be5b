"""What the engine takes in this process: prompts of several lengths, batches, known beginnings, and guesses."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from tools.backends.vllm.pipeline import Pipeline
from tools.backends.vllm.sampling import Sampling
from tools.backends.vllm.settings import Settings, Speculation

LENGTHS, STREAMS, KNOWN = (16, 64, 256, 512, 1024), (1, 2, 4, 8, 16, 32), (0, 25, 50, 75, 100)
_PROMPT, _TOKENS = 896, 24  # of a prompt whose beginning is known; of each answer
_STORY = "Write story number {} about a cat and the sea.\n\nIt was"
_CODE = (
    "".join(f"def add_{n}(first, second):\n    return first + second + {n}\n\n" for n in range(6)) + "# {}\ndef add_6("
)
TEXTS = {"a story": _STORY, "code": _CODE}
Curves = dict[str, dict[str, float]]  # By panel and line, and by what changes.
_Point = tuple[str, str, float]


def measure(settings: Settings, rounds: int) -> Curves:
    """Medians of rounds through everything; one before them warms up."""
    plain = Pipeline(replace(settings, prefix_caching=False), Sampling())
    keeping = Pipeline(settings, Sampling())
    guessing = Pipeline(replace(settings, prefix_caching=False, speculation=Speculation(5, ngram=3)), Sampling())
    seen: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds + 1):
        for points in (_lengths(plain), _batches(plain), _known(keeping, number), _guesses(plain, guessing)):
            for line, point, value in points:
                if number:
                    seen[line][point].append(value)
    return {line: {at: round(median(values), 2) for at, values in points.items()} for line, points in seen.items()}


def _lengths(engine: Pipeline) -> Iterator[_Point]:
    for length in LENGTHS:
        first, rest = _run(engine, [" time" * length], _TOKENS)
        yield "to the first token [ms]", str(length), 1e3 * first
        yield "between tokens [ms]", str(length), 1e3 * rest / (_TOKENS - 1)


def _batches(engine: Pipeline) -> Iterator[_Point]:
    for streams in STREAMS:
        rate = _rate(engine, _STORY, streams)
        yield "all streams [tokens/s]", str(streams), rate
        yield "each stream [tokens/s]", str(streams), rate / streams


def _known(engine: Pipeline, number: int) -> Iterator[_Point]:
    for share in KNOWN:
        beginning = f"Text {number} {share}:" + " time" * (_PROMPT * share // 100)
        _run(engine, [beginning], 1)
        first, _ = _run(engine, [beginning + " way" * (_PROMPT - _PROMPT * share // 100)], 1)
        yield "prompt of 900 tokens [ms]", str(share), 1e3 * first


def _guesses(plain: Pipeline, guessing: Pipeline) -> Iterator[_Point]:
    for name, text in TEXTS.items():
        for streams in (1, 16):
            yield f"{name}, {streams}", "gain", _rate(guessing, text, streams) / _rate(plain, text, streams)


def _rate(engine: Pipeline, text: str, streams: int) -> float:
    return streams * _TOKENS / sum(_run(engine, [text.format(number) for number in range(streams)], _TOKENS))


def _run(engine: Pipeline, prompts: Sequence[str], tokens: int) -> tuple[float, float]:
    """Seconds to the first token that any prompt gets, and from there to the last of all."""
    began, config = time.perf_counter(), engine.config(Sampling(temperature=0, ignore_eos=True), tokens)
    handles, first = [engine.add(engine.encode(prompt), config) for prompt in prompts], 0.0
    while handles:
        engine.step()
        news = [engine.news(handle) for handle in handles]
        if not first and any(one.tokens for one in news):
            first = time.perf_counter() - began
        handles = [handle for handle, one in zip(handles, news, strict=True) if not one.reason]
    return first, time.perf_counter() - began - first
