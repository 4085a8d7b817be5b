"""Triton's releases, and what a model needs that only some of them have: fields, platforms, files, backends.

A release is named by its container: "26.09", whose server is 2.73. The tables were read from the history of
model_config.proto and of the sources at github.com/triton-inference-server.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import ge, lt

from tritonclient.grpc.model_config_pb2 import DataType

from clients.errors import ToolError
from tools.check.finding import Finding, Place, Rule
from tools.check.served import AOTI, Model
from tools.repository import ROOT

# The minor version of the server in each container.
SERVERS = {
    **{"24.10": 51, "24.11": 52, "24.12": 53, "25.01": 54, "25.02": 55, "25.03": 56, "25.04": 57, "25.05": 58},
    **{"25.06": 59, "25.07": 59, "25.08": 60, "25.09": 61, "25.10": 62, "25.11": 63, "25.12": 64, "26.01": 65},
    **{"26.02": 66, "26.03": 67, "26.04": 68, "26.05": 69, "26.06": 70, "26.07": 71, "26.08": 72, "26.09": 73},
}
OLDEST, NEWEST = min(SERVERS), max(SERVERS)
EMBEDDED = "24.10"  # What tools.serve starts.
# A later one is judged as the newest.
_RELEASE = re.compile(r"(?:2[5-9]|24)\.(?:0[1-9]|1[0-2])")

TOO_NEW = Rule("field-too-new", "A field, platform, file or data type that the release does not have yet", "core")
IGNORED = Rule("parameter-too-new", "A parameter that the release does not know yet and ignores")
GONE = Rule("release-removed", "A backend or path that the release no longer takes", level="error")
AOTI_BATCH = Rule("aoti-batch", "torch_aoti with batches of more than 1 or sequences: its support is incomplete")
METRIC = Rule("metric-control", "A metric_control lacks its family or its histogram buckets", "core")
RULES = (TOO_NEW, IGNORED, GONE, AOTI_BATCH, METRIC)


class ReleaseError(ToolError):
    """The text names no release that the checker knows."""


@dataclass(frozen=True)
class Need:
    """Something in a model that releases take `since` one, or no longer since one."""

    since: str
    place: Place
    what: str
    remedy: str = "remove it, or use a later release"


def parse_release(text: str) -> str:
    """The container of a release, given by its container (26.09) or its server (2.73, 2.73.0).

    Raises:
        ReleaseError: it is older than the oldest that is known, or no release.
    """
    if server := re.fullmatch(r"2\.(\d+)(?:\.(\d+))?", text):
        minor, patch = int(server[1]), int(server[2] or 0)
        containers = [name for name, number in SERVERS.items() if number == minor]
        # 2.59.0 was in 25.06, 2.59.1 in 25.07.
        if containers:
            return containers[min(patch, len(containers) - 1)]
    elif _RELEASE.fullmatch(text) and text >= OLDEST:
        return text
    known = f"{OLDEST} to {NEWEST} or later, or a server of 2.{SERVERS[OLDEST]} to 2.{SERVERS[NEWEST]}"
    raise ReleaseError(f"{text} is no release of Triton that is known here; expected {known}")


def pinned() -> str:
    """The release that docker-compose.yml runs on GPUs; the newest where there is no such file."""
    file = ROOT / "docker-compose.yml"
    found = re.search(r"tritonserver:(\d\d\.\d\d)-py3", file.read_text()) if file.is_file() else None
    return found[1] if found else NEWEST


def check(model: Model, releases: Sequence[str]) -> Iterator[Finding]:
    """Yield what some of the releases do not have; a warning where one of them has it."""
    checks = ((TOO_NEW, _new(model), lt), (IGNORED, _parameters(model), lt), (GONE, _old(model), ge))
    for rule, needs, refused in checks:
        for need in needs:
            refusing = [release for release in releases if refused(release, need.since)]
            if refusing:
                made = rule.at(
                    need.place,
                    found=f"{need.what}, which {', '.join(map(_shown, refusing))} does not take",
                    expected=f"Triton before {need.since}" if rule is GONE else f"Triton {need.since} or later",
                    remedy=need.remedy,
                )
                finding = replace(made, since=need.since)
                yield finding if len(refusing) == len(releases) else replace(finding, severity="warning")
    yield from _check_aoti(model)
    yield from _check_metrics(model)


def _shown(release: str) -> str:
    server = f" (2.{SERVERS[release]}{', embedded' if release == EMBEDDED else ''})" if release in SERVERS else ""
    return f"{release}{server}"


def _new(model: Model) -> Iterator[Need]:
    """What came after the oldest release."""
    config = model.config
    for since, *path in (("24.11", "model_metrics"), ("25.11", "ensemble_scheduling", "max_inflight_requests")):
        nodes = [model.source.root]
        for name in path:
            nodes = [child for node in nodes for child in node.fields.get(name, [])]
        for node in nodes:
            yield Need(since, Place(model.source.file, node.line, node.column), f"field '{path[-1]}'")
    if config.platform == AOTI[1]:
        yield Need("26.03", model.place("platform"), f"platform '{AOTI[1]}' or a file {AOTI[0]}")
    for number, accelerator in enumerate(config.optimization.execution_accelerators.gpu_execution_accelerator):
        if accelerator.parameters.get("precision_mode") == "BF16":
            place = model.place("optimization", "execution_accelerators", "gpu_execution_accelerator", number)
            yield Need("26.02", place, "precision_mode BF16")
    for role in ("input", "output") if config.backend == "onnxruntime" else ():
        for number, tensor in enumerate(getattr(config, role)):
            if tensor.data_type == DataType.TYPE_BF16:
                yield Need("26.03", model.place(role, number, "data_type"), "TYPE_BF16 with onnxruntime")


def _parameters(model: Model) -> Iterator[Need]:
    key = "session.use_device_allocator_for_initializers"
    if model.config.backend == "onnxruntime" and key in model.config.parameters:
        yield Need("25.02", model.place(f"parameters[{key}]"), f"parameter {key}")


def _old(model: Model) -> Iterator[Need]:
    """What went since."""
    config = model.config
    if config.backend == "tensorflow":
        name = "backend" if model.source.config.backend else "platform"
        yield Need("25.03", model.place(name), "backend 'tensorflow'", "export the model to ONNX, or stay on 25.02")
    key = "TRITON_BATCH_STRATEGY_PATH"
    library = config.parameters[key].string_value if key in config.parameters else ""
    if library and _is_outside(model, library):
        remedy = f"copy it into {model.name}/"
        yield Need("26.06", model.place(f"parameters[{key}]"), f"{key} outside of the model's folder", remedy)
    for number, output in enumerate(config.output):
        if output.label_filename and _is_outside(model, output.label_filename):
            place, remedy = model.place("output", number, "label_filename"), f"copy it into {model.name}/"
            yield Need("26.02", place, "label_filename outside of the model's folder", remedy)


def _is_outside(model: Model, path: str) -> bool:
    return not (model.folder / path).resolve().is_relative_to(model.folder.resolve())


def _check_aoti(model: Model) -> Iterator[Finding]:
    config = model.config
    if config.platform == AOTI[1] and (config.max_batch_size > 1 or config.HasField("sequence_batching")):
        yield AOTI_BATCH.at(
            model.place("platform"),
            found=f"platform '{AOTI[1]}' with max_batch_size {config.max_batch_size} or sequence_batching",
            expected="max_batch_size 0 or 1",
            remedy="test it with the release that will serve it, or set max_batch_size: 1",
        )


def _check_metrics(model: Model) -> Iterator[Finding]:
    for number, control in enumerate(model.config.model_metrics.metric_control):
        if not (control.metric_identifier.family and control.histogram_options.buckets):
            yield METRIC.at(
                model.place("model_metrics", "metric_control", number),
                found="a metric_control without family or buckets",
                expected="metric_identifier { family } and histogram_options { buckets }",
                remedy="add them, or remove the metric_control",
            )
