"""The response cache, repository agents, custom batching, and metric tags."""

import re
from collections.abc import Iterator
from pathlib import Path

from tools.check.finding import Finding, Rule
from tools.check.served import Model

BASE = 'name: "model"\nbackend: "pytorch"\nmax_batch_size: 8\n'
CACHE_SEQUENCE = Rule(
    "cache-sequence",
    "response_cache on a model with sequences",
    "core",
    BASE + "sequence_batching { direct { } }\nresponse_cache { enable: true }",
)
CACHE_DECOUPLED = Rule(
    "cache-decoupled",
    "response_cache on a decoupled model",
    "core",
    BASE + "model_transaction_policy { decoupled: true }\nresponse_cache { enable: true }",
)
AGENT = Rule(
    "repository-agent",
    "A repository agent that NVIDIA does not ship",
    "server",
    BASE + 'model_repository_agents { agents [ { name: "checksums" } ] }',
)
STRATEGY = Rule(
    "batch-strategy",
    "TRITON_BATCH_STRATEGY_PATH names a library that does not exist",
    "server",
    BASE + "dynamic_batching { }\n"
    'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/opt/none.so" } }',
)
TAG = Rule(
    "metric-tag",
    "A metric tag that Prometheus does not take as a label: it ends the whole server (2.51 does not catch it)",
    "core",
    BASE + 'metric_tags { key: "team-name" value: "vision" }',
)
RULES = (CACHE_SEQUENCE, CACHE_DECOUPLED, AGENT, STRATEGY, TAG)

# Triton puts an underscore before it; labels that begin with two are reserved.
LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_]*)?")
AGENTS = ("checksum",)
STRATEGY_PARAMETER = "TRITON_BATCH_STRATEGY_PATH"


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with these features."""
    config = model.config
    cached = config.response_cache.enable
    rules = {CACHE_SEQUENCE: config.HasField("sequence_batching")}
    rules[CACHE_DECOUPLED] = config.model_transaction_policy.decoupled
    for rule, applies in rules.items():
        if cached and applies:
            yield rule.at(
                model.place("response_cache"),
                found=rule.summary,
                expected="no response cache: an answer there does not depend on the request alone",
                remedy="remove response_cache",
            )
    for number, agent in enumerate(config.model_repository_agents.agents):
        if agent.name not in AGENTS:
            yield AGENT.at(
                model.place("model_repository_agents", 0, "agents", number),
                found=f"agent '{agent.name}'",
                expected=f"{', '.join(AGENTS)}, or one installed in the server's repoagent directory",
                remedy="see that the server has it: without it, the model is not loaded",
            )
    yield from check_strategy(model)
    for key in config.metric_tags:
        if not LABEL.fullmatch(key):
            yield TAG.at(
                model.place(f"metric_tags[{key}]"),
                found=f"metric tag '{key}'",
                expected="letters, digits and underscores, the first one no underscore",
                remedy="rename it, for example " + (re.sub(r"\W", "_", key, flags=re.ASCII).strip("_") or "tag"),
            )


def check_strategy(model: Model) -> Iterator[Finding]:
    """A custom batching library is where it is said to be; the path may be meant for another machine."""
    path = model.config.parameters[STRATEGY_PARAMETER].string_value if has_strategy(model) else ""
    if path and not Path(path).is_file():
        yield STRATEGY.at(
            model.place(f"parameters[{STRATEGY_PARAMETER}]"),
            found=f"{path} does not exist here",
            expected="a library on the server",
            remedy="correct the path, if it is wrong on the server too",
        )


def has_strategy(model: Model) -> bool:
    """Whether the config names a custom batching library."""
    return STRATEGY_PARAMETER in model.config.parameters
