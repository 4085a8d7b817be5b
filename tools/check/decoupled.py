"""Decoupled models in ensembles: they give any number of answers to a request, each at its own time."""

from collections.abc import Iterator

from tools.check.ensembles import BASE
from tools.check.finding import Finding, Rule
from tools.check.served import Model, Served

DECOUPLED = Rule(
    "ensemble-decoupled",
    "A step, or the caller, gets tensors from two decoupled models, or from one and others: they do not come in pairs",
    "core",
    BASE
    + """ensemble_scheduling { step [
  { model_name: "stream" model_version: -1 input_map { key: "X" value: "A" } output_map { key: "Y" value: "P" } },
  { model_name: "stream" model_version: -1 input_map { key: "X" value: "A" } output_map { key: "Y" value: "Q" } },
  { model_name: "two_inputs" model_version: -1
    input_map { key: "X" value: "P" } input_map { key: "X2" value: "Q" } output_map { key: "Y" value: "B" } }
] }
""",
)
RULES = (DECOUPLED,)


def check(model: Model, served: Served) -> Iterator[Finding]:
    """No step reads from two decoupled models; the answers of each come at their own pace."""
    sources: dict[str, int] = {tensor.name: 0 for tensor in model.config.input}
    left = dict(enumerate(model.config.ensemble_scheduling.step))
    while ready := [number for number, step in left.items() if set(step.input_map.values()) <= set(sources)]:
        for number in ready:
            step = left.pop(number)
            origins = {sources[tensor] for tensor in step.input_map.values()}
            if len(origins) > 1:
                yield DECOUPLED.at(
                    model.place("ensemble_scheduling", 0, "step", number, "input_map"),
                    found=f"step {number + 1} ('{step.model_name}') reads tensors of different origin",
                    expected="tensors that all come from one decoupled model, or all from none",
                    remedy="let the decoupled model hand the other tensors through",
                )
            decoupled = served.models[step.model_name].config.model_transaction_policy.decoupled
            origin = number + 1 if decoupled else max(origins)
            sources.update(dict.fromkeys(step.output_map.values(), origin))
    outputs = [output.name for output in model.config.output if output.name in sources]
    if len({sources[name] for name in outputs}) > 1:
        yield DECOUPLED.at(
            model.place("output"),
            found=f"outputs {', '.join(outputs)} of different origin",
            expected="outputs that all come from one decoupled model, or all from none",
            remedy="let the decoupled model hand the other tensors through",
        )
