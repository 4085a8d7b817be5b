"""Decoupled models in ensembles: they send any number of responses to a request, at any time."""

from collections.abc import Iterator

from tools.check.finding import Finding, Rule
from tools.check.served import Model, Served

DECOUPLED = Rule(
    "ensemble-decoupled",
    "A step, or the client, gets tensors from a decoupled model and from elsewhere: they do not arrive in pairs",
    "core",
)
RULES = (DECOUPLED,)


def check(model: Model, served: Served) -> Iterator[Finding]:
    """Yield a finding for each step, or the outputs, that mix a decoupled model's tensors with others."""
    sources: dict[str, int] = {tensor.name: 0 for tensor in model.config.input}
    left = dict(enumerate(model.config.ensemble_scheduling.step))
    while ready := [number for number, step in left.items() if set(step.input_map.values()) <= set(sources)]:
        for number in ready:
            step = left.pop(number)
            origins = {sources[tensor] for tensor in step.input_map.values()}
            if len(origins) > 1:
                yield DECOUPLED.at(
                    model.place("ensemble_scheduling", 0, "step", number, "input_map"),
                    found=f"step {number + 1} ('{step.model_name}') reads tensors of different origins",
                    expected="tensors that all come from one decoupled model, or from none",
                    remedy="pass the other tensors through the decoupled model",
                )
            decoupled = served.models[step.model_name].config.model_transaction_policy.decoupled
            origin = number + 1 if decoupled else max(origins)
            sources.update(dict.fromkeys(step.output_map.values(), origin))
    outputs = [output.name for output in model.config.output if output.name in sources]
    if len({sources[name] for name in outputs}) > 1:
        yield DECOUPLED.at(
            model.place("output"),
            found=f"outputs {', '.join(outputs)} of different origins",
            expected="outputs that all come from one decoupled model, or from none",
            remedy="pass the other tensors through the decoupled model",
        )
