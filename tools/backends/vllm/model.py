"""A stand-in for NVIDIA's vLLM backend: Triton loads this file where the embedded server lacks that backend.

It reads the same folder, gives the same tensors the same meaning and refuses the same mistakes with similar messages;
NVIDIA's container serves that folder with vLLM itself. The engine is OpenVINO GenAI's continuous batching, in this
process. Three threads share the work: one steps (`engine`), one turns tokens into text and sends it, one looks now and
then who has gone, whether a step has no end, and what the metrics are.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from tools.backends.vllm import measures, sampling
    from tools.backends.vllm.calls import Call
    from tools.backends.vllm.engine import Engine, Sequence, Step
    from tools.backends.vllm.pipeline import Pipeline
    from tools.backends.vllm.settings import read_settings
    from tools.backends.vllm.text import read_vocabulary
else:  # Triton puts this folder on sys.path.
    import measures
    import sampling
    from calls import Call
    from engine import Engine, Sequence, Step
    from pipeline import Pipeline
    from settings import read_settings
    from text import read_vocabulary

_LOOK_SECONDS = 0.4
_REPORT_SECONDS = 1.0
_STALL_SECONDS = "60"  # A step that takes longer will not end.
_CLOSE_SECONDS = 5


class TritonPythonModel:
    """One engine; Triton prescribes the name of the class."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network of a version as its `model.json` asks."""
        config = json.loads(args["model_config"])
        if not pb_utils.using_decoupled_model_transaction_policy(config):
            raise pb_utils.TritonModelException(
                "vLLM Triton backend must be configured to use decoupled model transaction policy"
            )
        self._name, parameters = args["model_name"], config.get("parameters", {})
        stall = parameters.get("ENGINE_STALL_SECONDS", {}).get("string_value", _STALL_SECONDS)
        wanted = parameters.get("REPORT_CUSTOM_METRICS", {}).get("string_value", "")
        labels = {"model": args["model_name"], "version": args["model_version"]}
        try:
            self._stall = float(stall)
            folder = Path(args["model_repository"], args["model_version"])
            self._settings = read_settings(folder, config, args["model_instance_kind"])
            self._pipeline = Pipeline(self._settings, sampling.Sampling())
        except (ValueError, RuntimeError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self._vocabulary = read_vocabulary(self._pipeline.tokenizer)
        self._measures = measures.Measures(labels, wanted.lower() == "true")
        self._steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self._engine = Engine(self._pipeline, self._settings, self._steps.put)
        self._gone: list[Call] = []  # Found by the last look.
        self._is_closing = threading.Event()
        # A model that is ready has its metrics; families that came with the first look could be missed until then.
        self._report()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._send, self._watch)]
        for thread in self._threads:
            thread.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand requests to the engine, which takes them into the batch that runs; answers come by themselves."""
        refused: list[str] = []  # An exception would keep this frame alive.
        for request in requests:
            call = Call(request)
            try:
                self._submit(call)
            except (ValueError, RuntimeError) as error:
                call.fail(f"Error generating stream: {error}", pb_utils.TritonError.INVALID_ARG)
                refused.append(str(error))
            except ConnectionError as error:
                call.fail(str(error), pb_utils.TritonError.UNAVAILABLE)
                refused.append(str(error))
        if len(refused) == len(requests):
            # They are answered; this lets Triton count them as failures.
            raise pb_utils.TritonModelException(refused[0])

    def _submit(self, call: Call) -> None:
        prompt, parameters = call.read()
        asked, settings = sampling.read(parameters, self._settings.max_num_seqs), self._settings
        tokens = self._pipeline.encode(prompt)
        read = int(tokens.shape[1])
        if not 0 < read < settings.max_model_len:
            raise ValueError(
                f"the prompt has {read} tokens; expected 1 or more, fewer than max_model_len={settings.max_model_len}"
            )
        limit = min(asked.max_tokens or settings.max_model_len, settings.max_model_len - read)
        blocks = settings.needed(read + limit)
        if blocks > settings.blocks:
            raise ValueError(
                f"the prompt's {read} tokens and max_tokens={limit} need more than the KV cache of "
                f"{settings.cached_tokens} tokens (KV_CACHE_TOKENS)"
            )
        call.begin(self._vocabulary, asked, read, settings.stream_interval)
        configs = [self._pipeline.config(asked, limit, number) for number in range(asked.n)]
        call.sequences = [Sequence(tokens, config, blocks, call, number) for number, config in enumerate(configs)]
        for sequence in call.sequences:
            self._engine.submit(sequence)

    def _send(self) -> None:
        """Turn tokens into text and send it; what has gathered meanwhile leaves in one message."""
        while not self._is_closing.is_set() or not self._steps.empty():
            steps = [self._steps.get()]
            while not self._steps.empty():
                steps.append(self._steps.get())
            news = [(*entry, step.time) for step in steps for entry in step.news]
            for entry in news:
                self._take(*entry)
            for call in dict.fromkeys(sequence.owner for sequence, *_ in news):
                self._answer(call)

    def _answer(self, call: Call) -> None:
        try:
            if not call.is_left:
                call.send()
        except Exception as error:  # Trouble with one answer must not end the thread that writes all.
            call.fail(f"Error generating stream: {error!r}", pb_utils.TritonError.INTERNAL)

    def _take(self, sequence: Sequence, news: Any, moment: float) -> None:
        call: Call = sequence.owner
        if call.is_left:
            return
        if news.reason == "error":
            call.fail(f"Error generating stream: {news.error}", pb_utils.TritonError.UNAVAILABLE)
            self._measures.count(measures.ENDED, 1, "finished_reason", "error")
            return
        taken = call.take(sequence, news)
        answer = call.answers[sequence.number]
        if taken:
            self._measure(call, sequence, answer, moment, taken)
        if answer.reason:
            self._measures.count(measures.ENDED, 1, "finished_reason", answer.reason)
            self._measures.observe(measures.WHOLE, moment - sequence.arrived)

    def _measure(self, call: Call, sequence: Sequence, answer: Any, moment: float, taken: int) -> None:
        if answer.last is None:
            self._measures.count(measures.READ, call.read_tokens)
            self._measures.observe(measures.FIRST, moment - sequence.arrived)
            self._measures.observe(measures.QUEUE, sequence.joined - sequence.arrived)
        else:
            self._measures.observe(measures.NEXT, (moment - answer.last) / taken, taken)
        answer.last = moment
        self._measures.count(measures.WRITTEN, taken)

    def _watch(self) -> None:
        reported = 0.0
        while not self._is_closing.wait(_LOOK_SECONDS):
            self._drop_the_gone()
            began = self._engine.began
            if began and time.monotonic() - began > self._stall:
                self._engine.failure = f"a step has taken longer than {self._stall:g} s (ENGINE_STALL_SECONDS)"
            if time.monotonic() - reported > _REPORT_SECONDS:
                self._report()
                reported = time.monotonic()
            if self._engine.failure:
                return self._give_up()

    def _drop_the_gone(self) -> None:
        """Free what is kept for callers who have cancelled, or closed their connection.

        They get their last response at the next look: one that comes just when tritonserver 2.51 ends their stream can
        end tritonserver.
        """
        for call in self._gone:
            call.fail("Request was cancelled", pb_utils.TritonError.CANCELLED)
        self._gone = [call for call in self._engine.owners() if not call.is_left and call.sender.is_cancelled()]
        for call in self._gone:
            self._measures.count(measures.ENDED, len(call.sequences), "finished_reason", "abort")
            call.leave()

    def _report(self) -> None:
        running, waiting = self._engine.counts()
        gauges = {measures.RUNNING: running, measures.WAITING: waiting, measures.USAGE: self._engine.usage}
        self._measures.report(gauges)

    def _give_up(self) -> None:
        """Tell everybody that the engine is gone, and have Triton say that the model is not ready."""
        pb_utils.Logger.log_error(
            f"{self._name}: the engine is unusable, the model is unloaded: {self._engine.failure}"
        )
        for call in (*self._gone, *self._engine.owners()):
            call.fail(
                f"Model is unavailable due to unhealthy engine: {self._engine.failure}",
                pb_utils.TritonError.UNAVAILABLE,
            )
        # It waits for `finalize`, which waits for this thread.
        threading.Thread(target=self._unload, daemon=True).start()

    def _unload(self) -> None:
        with suppress(pb_utils.TritonModelException):  # Only --model-control-mode=explicit lets a model be unloaded.
            pb_utils.unload_model(self._name)

    def finalize(self) -> None:
        """Stop; Triton has waited for the requests that it had accepted."""
        self._is_closing.set()
        self._engine.close(_CLOSE_SECONDS)
        self._steps.put(Step(0.0, []))
        for thread in self._threads:
            thread.join(_CLOSE_SECONDS)
