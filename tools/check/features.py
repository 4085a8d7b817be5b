"""The response cache, repository agents, custom batching, and metric tags."""

import re
from collections.abc import Iterator
from pathlib import Path

from tools.check.finding import Finding, Rule
from tools.check.served import Model

CACHE_SEQUENCE = Rule("cache-sequence", "response_cache on a model with sequences", "core")
CACHE_DECOUPLED = Rule("cache-decoupled", "response_cache on a decoupled model", "core")
AGENT = Rule("repository-agent", "A repository agent that NVIDIA does not ship", "server")
STRATEGY = Rule("batch-strategy", "TRITON_BATCH_STRATEGY_PATH names a file that does not exist", "server")
TAG = Rule(
    "metric-tag",
    "A metric tag that is not a valid Prometheus label: it crashes the server (2.51 does not catch it)",
    "core",
)
RULES = (CACHE_SEQUENCE, CACHE_DECOUPLED, AGENT, STRATEGY, TAG)

# Triton prepends an underscore, and Prometheus reserves labels that begin with two.
_LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_]*)?")
_AGENTS = ("checksum",)
_STRATEGY_PARAMETER = "TRITON_BATCH_STRATEGY_PATH"


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about these features."""
    yield from _check_cache(model)
    yield from _check_agents(model)
    yield from _check_strategy(model)
    yield from _check_tags(model)


def _check_cache(model: Model) -> Iterator[Finding]:
    rules = {CACHE_SEQUENCE: model.config.HasField("sequence_batching")}
    rules[CACHE_DECOUPLED] = model.config.model_transaction_policy.decoupled
    for rule, applies in rules.items():
        if model.config.response_cache.enable and applies:
            yield rule.at(
                model.place("response_cache"),
                found=rule.summary,
                expected="no response cache, because a response depends on more than its request",
                remedy="remove response_cache",
            )


def _check_agents(model: Model) -> Iterator[Finding]:
    for number, agent in enumerate(model.config.model_repository_agents.agents):
        if agent.name not in _AGENTS:
            yield AGENT.at(
                model.place("model_repository_agents", "agents", number),
                found=f"agent '{agent.name}'",
                expected=f"{', '.join(_AGENTS)}, or one installed in the server's repoagent directory",
                remedy="make sure that the server has it; without it the model does not load",
            )


def _check_strategy(model: Model) -> Iterator[Finding]:
    parameters = model.config.parameters
    path = parameters[_STRATEGY_PARAMETER].string_value if _STRATEGY_PARAMETER in parameters else ""
    if path and not Path(path).is_file():
        yield STRATEGY.at(
            model.place(f"parameters[{_STRATEGY_PARAMETER}]"),
            found=f"{path} does not exist here",
            expected="a library that exists on the server",
            remedy="correct the path, unless it exists on the server",
        )


def _check_tags(model: Model) -> Iterator[Finding]:
    for key in model.config.metric_tags:
        if not _LABEL.fullmatch(key):
            yield TAG.at(
                model.place(f"metric_tags[{key}]"),
                found=f"metric tag '{key}'",
                expected="letters, digits and underscores, not beginning with an underscore",
                remedy="rename it, for example " + (re.sub(r"\W", "_", key, flags=re.ASCII).strip("_") or "tag"),
            )
