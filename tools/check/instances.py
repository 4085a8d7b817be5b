"""Instance groups: kinds, GPUs and profiles."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.repository import CPU_CONFIG

GPUS = Rule("gpus-without-gpu-kind", "gpus in an instance group of KIND_CPU or KIND_MODEL", "core")
NO_GPU = Rule("no-gpu", "KIND_GPU, or KIND_AUTO with gpus, on a server without a GPU (--hardware cpu)", "core")
NO_GPU_CONFIG = Rule("no-gpu-setting", "CUDA settings on a server without a GPU (--hardware cpu)")
KIND = Rule("instance-kind", "Unknown kind of an instance group", "core")
PROFILE = Rule("profile", "A profile outside TensorRT, or one that is not a non-negative number", "core")
COUNT = Rule("instance-count", "A negative number of instances; Triton creates one")
RULES = (GPUS, NO_GPU, NO_GPU_CONFIG, KIND, PROFILE, COUNT)

_Kind = ModelInstanceGroup.Kind


def check(model: Model) -> Iterator[Finding]:
    """Yield findings about instance groups that hold on any hardware; ensembles.py forbids those of an ensemble."""
    if model.ensemble:
        return
    for number, group in enumerate(model.config.instance_group):
        yield from _check_group(model, number, group)
        yield from _check_profiles(model, number, group)


def _check_group(model: Model, number: int, group: Any) -> Iterator[Finding]:
    if group.kind not in _Kind.values():
        yield KIND.at(
            model.place("instance_group", number, "kind"),
            found=f"kind {group.kind}",
            expected=f"one of {', '.join(_Kind.keys())}",
            remedy="set one of them",
        )
    elif group.gpus and group.kind in (ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_MODEL):
        yield GPUS.at(
            model.place("instance_group", number, "gpus"),
            found=f"gpus {list(group.gpus)} with {_Kind.Name(group.kind)}",
            expected="no gpus",
            remedy="remove gpus, or set kind: KIND_GPU",
        )
    if group.count < 0:
        yield COUNT.at(
            model.place("instance_group", number, "count"),
            found=f"count {group.count}",
            expected="1 or more",
            remedy="set a positive number of instances",
        )


def _check_profiles(model: Model, number: int, group: Any) -> Iterator[Finding]:
    tensorrt = model.config.platform == "tensorrt_plan"
    for index, profile in enumerate(group.profile):
        if not tensorrt or not profile.strip().lstrip("+")[:1].isdigit():
            yield PROFILE.at(
                model.place("instance_group", number, "profile", index),
                found=f"profile '{profile}' on platform '{model.config.platform}'",
                expected="a non-negative number, and a TensorRT model",
                remedy="set the number of a profile" if tensorrt else "remove it",
            )


def check_without_gpu(model: Model) -> Iterator[Finding]:
    """Yield what a model asks for that a server without a GPU lacks.

    A config.pbtxt beside a config for such servers is not checked.
    """
    if model.source.file.parent == model.folder and (model.folder / "configs" / f"{CPU_CONFIG}.pbtxt").is_file():
        return
    for number, group in enumerate(model.config.instance_group):
        if group.kind == ModelInstanceGroup.KIND_GPU:
            yield NO_GPU.at(
                model.place("instance_group", number, "kind"),
                found="KIND_GPU",
                expected="KIND_CPU or KIND_AUTO on a server without a GPU",
                remedy=f"write {model.name}/configs/{CPU_CONFIG}.pbtxt; serve with --model-config-name={CPU_CONFIG}",
            )
        elif group.kind == ModelInstanceGroup.KIND_AUTO and group.gpus:
            yield NO_GPU.at(
                model.place("instance_group", number, "gpus"),
                found=f"gpus {list(group.gpus)} with KIND_AUTO, which becomes KIND_CPU",
                expected="no gpus on a server without a GPU",
                remedy="remove gpus",
            )
    if model.config.optimization.HasField("cuda"):
        yield NO_GPU_CONFIG.at(
            model.place("optimization", "cuda"),
            found="optimization.cuda",
            expected="no CUDA settings on a server without a GPU",
            remedy="remove it from the config for that server",
        )
