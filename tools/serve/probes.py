"""What a served version is asked to see whether it works: its golden requests, or zeros where it carries none."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.aio import AsyncClient
from clients.contract import Array, Contract, TensorSpec
from clients.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
)
from clients.golden import Case, Golden, complaint, read
from tools.repository import GOLDEN_FILE, MANIFEST_FILE, read_manifest, version_path

_VARIABLE_DIM = 1
_PROMPT = "text_input"  # What a language model requires, and nothing else: it is asked for a token.
_SLACK = 10  # times the tolerance: a watchdog looks for nonsense, not for another device's rounding
# What Triton says of a Python-based model whose process has died, and of one that has enough to do.
_DEAD, _FULL = "Stub process", "maximum queue size"


@dataclass(frozen=True)
class Reply:
    """What came of a probe; `words` say what is wrong, `seconds` how long it took."""

    outcome: Literal["right", "busy", "gone", "late", "dead", "failed", "wrong"]
    words: str = ""
    seconds: float = 0.0

    @property
    def is_miss(self) -> bool:
        """Whether it is a sign of sickness."""
        return self.is_mute or self.outcome in ("failed", "wrong")

    @property
    def is_mute(self) -> bool:
        """Whether callers wait for an answer that does not come."""
        return self.outcome in ("late", "dead")


def golden_of(model: str, served: Mapping[str, int], repository: Path) -> Golden | None:
    """The golden requests of the served version of a model; None if there are none that its answers compare with.

    Those of an ensemble were answered by certain versions of its members: `served` are all versions in use, by model.

    Raises:
        InvalidInput: the file is damaged.
        RepositoryError: the manifest is damaged.
    """
    folder = version_path(model, served[model], repository)
    golden = read(folder / GOLDEN_FILE)
    if golden is None or not (folder / MANIFEST_FILE).is_file():
        return golden
    proven = read_manifest(model, served[model], repository).get("steps", {})
    return golden if all(served.get(member) == version for member, version in proven.items()) else None


def zeros(contract: Contract) -> Golden:
    """A request of zeros, or of empty texts, that any answer is right to."""

    def array(spec: TensorSpec) -> Array:
        shape = [1] * contract.batched + [_VARIABLE_DIM if dim < 0 else dim for dim in spec.dims]
        if spec.datatype == "BYTES":
            return np.full(shape, b"", np.object_)
        return np.zeros(shape, triton_to_np_dtype(spec.datatype))

    inputs = {spec.name: array(spec) for spec in contract.inputs if not spec.optional}
    return Golden(0.0, (Case(inputs, {}),))


async def _answer(client: AsyncClient, model: str, version: int, case: Case) -> Mapping[str, Array]:
    if set(case.inputs) != {_PROMPT}:
        return await client.infer(model, case.inputs, version=version)
    async for _ in client.generate(model, "1", version=version, max_tokens=1):
        pass
    return {}


async def ask(client: AsyncClient, model: str, version: int, case: Case, tolerance: float, patience_s: float) -> Reply:
    """Send a probe to a version, and judge the answer."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(patience_s):
            answer = await _answer(client, model, version, case)
    except ModelNotFound:  # It is being unloaded.
        reply = Reply("gone")
    except (TimeoutError, DeadlineExceeded):
        reply = Reply("late", f"no answer within {patience_s:g} s")
    except (RequestRejected, ServerFailed, InvalidInput) as error:
        # Nobody knows whether a model takes zeros, so a refusal of them is an answer.
        is_sick = bool(case.outputs) or _DEAD in str(error)
        reply = Reply("failed", str(error)) if is_sick else Reply("right")
    except ServerUnavailable as error:
        reply = Reply("busy") if _FULL in str(error) else Reply("failed", str(error))
    else:
        wrong = complaint(case, answer, _SLACK * tolerance)
        reply = Reply("wrong", wrong) if wrong else Reply("right")
    return Reply(reply.outcome, reply.words, time.monotonic() - began)
