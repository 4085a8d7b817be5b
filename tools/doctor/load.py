"""A few seconds of careful load: few callers who wait for their answers, one model after the other."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from clients.client import Client
from clients.errors import ClientError
from loadtest.analysis.measurement import measure, setting_of
from loadtest.analysis.predict import Line, line_through
from loadtest.analysis.server_side import observe, server_side
from loadtest.load import closed_loop
from loadtest.options import GeneratorOptions
from loadtest.payloads import inputs
from tools.doctor.observation import ModelSeen

_CALLERS = 4
_SHORTEST_S = 0.8  # for one model
_BATCH = 8  # whose executions are timed beside those of 1

Models = dict[str, ModelSeen]


def ask(client: Client, models: Sequence[ModelSeen], seconds: float) -> tuple[tuple[ModelSeen, ...], list[str]]:
    """Ask the models that callers use, and by them those of their steps; also says which were not asked, and why."""
    steps, known, notes = {name for model in models for name in model.members}, {one.name: one for one in models}, []
    used = [model for model in models if model.config and model.name not in steps]
    share = max(_SHORTEST_S, seconds / max(1, len(used)))
    fitting = max(1, int(seconds / share))
    for model in used[:fitting]:
        try:
            known |= _asked(client, model, known, share)
        except ClientError as error:
            notes.append(f"{model.name} was not asked: {error}")
    notes += [f"{model.name} was not asked: lengthen --load, or choose with --model" for model in used[fitting:]]
    return tuple(known.values()), notes


def _asked(client: Client, model: ModelSeen, known: Models, seconds: float) -> Models:
    if model.queue_us:  # Others ask it: only the times of batches are missing.
        return {model.name: replace(model, line=_line(client, model, 0.4 * seconds))}
    setting, before = setting_of(client, model.name, GeneratorOptions(warm_up_s=0.0)), observe(client)
    own = measure(client, setting, closed_loop(_CALLERS, 0.6 * seconds), []).server
    after, members = observe(client), [known[name] for name in _below(model, known)]
    sides = {one.name: server_side(before, after, one.config, own.seconds) for one in members}
    answers = {one.name: replace(one, server=sides[one.name], callers=_CALLERS) for one in members}
    line = _line(client, model, 0.4 * seconds)
    return answers | {model.name: replace(model, server=own, line=line, callers=_CALLERS)}


def _below(model: ModelSeen, known: Models) -> set[str]:
    """The models of an ensemble's steps, and of theirs."""
    direct = model.members & known.keys()
    return direct.union(*(_below(known[name], known) for name in direct))


def _line(client: Client, model: ModelSeen, seconds: float) -> Line | None:
    """The times of executions of one inference and of several, one by one."""
    size = min(_BATCH, int(model.config.get("max_batch_size", 0)))
    if size < 2 or model.members:
        return None
    before = observe(client)
    for batch in (1, size):
        send(client, model.name, batch, seconds / 2)
    return line_through(server_side(before, observe(client), model.config, seconds).batches)


def send(client: Client, model: str, batch: int, seconds: float) -> None:
    """Ask a model again and again, with random inputs that no cache has seen, or with its samples."""
    deadline, contract = time.monotonic() + seconds, client.contract(model)
    for number in count():
        for arrays in inputs(contract, GeneratorOptions().samples, batch, seed=number)[1]:
            client.infer(model, arrays)
            if time.monotonic() > deadline:
                return
