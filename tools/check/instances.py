"""Instance groups: kinds, GPUs, profiles, and the resources of the rate limiter."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.repository import CPU_CONFIG

BASE = 'name: "model"\nbackend: "pytorch"\n'
GPUS = Rule(
    "gpus-without-gpu-kind",
    "gpus in an instance group of KIND_CPU or KIND_MODEL",
    "core",
    BASE + "instance_group { kind: KIND_CPU gpus: [ 0 ] }",
)
NO_GPU = Rule("no-gpu", "KIND_GPU, or gpus of KIND_AUTO, where the server has no GPU (--hardware cpu)", "core")
NO_GPU_CONFIG = Rule("no-gpu-setting", "CUDA settings on a server without a GPU (--hardware cpu)")
KIND = Rule("instance-kind", "An instance group's kind does not exist", "core", BASE + "instance_group { kind: 9 }")
PROFILE = Rule(
    "profile",
    "A profile outside TensorRT, or one that is no number from 0",
    "core",
    BASE + 'instance_group { kind: KIND_CPU profile: "0" }',
)
COUNT = Rule(
    "instance-count", "A negative number of instances; Triton takes 1", example=BASE + "instance_group { count: -1 }"
)
RESOURCE = Rule(
    "rate-limiter-resource",
    "A resource of the rate limiter is global in one place and per device in another; "
    "refused with --rate-limit=execution_count",
    example=BASE
    + "instance_group [\n"
    + '  { kind: KIND_CPU rate_limiter { resources [ { name: "R" global: true count: 1 } ] } },\n'
    + '  { kind: KIND_CPU rate_limiter { resources [ { name: "R" count: 1 } ] } }\n]',
)
RULES = (GPUS, NO_GPU, NO_GPU_CONFIG, KIND, PROFILE, COUNT, RESOURCE)

Kind = ModelInstanceGroup.Kind


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with a model's instance groups on any hardware; those of an ensemble are refused elsewhere."""
    if model.ensemble:
        return
    for number, group in enumerate(model.config.instance_group):
        yield from check_group(model, number, group)
        yield from check_profiles(model, number, group)
    yield from check_resources(model)


def check_group(model: Model, number: int, group: Any) -> Iterator[Finding]:
    """Kind, GPUs and count of one group."""
    if group.kind not in Kind.values():
        yield KIND.at(
            model.place("instance_group", number, "kind"),
            found=f"kind {group.kind}",
            expected=", ".join(Kind.keys()),
            remedy="name one of them",
        )
    elif group.gpus and group.kind in (ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_MODEL):
        yield GPUS.at(
            model.place("instance_group", number, "gpus"),
            found=f"gpus {list(group.gpus)} with {Kind.Name(group.kind)}",
            expected="no gpus",
            remedy="remove gpus, or set kind: KIND_GPU",
        )
    if group.count < 0:
        yield COUNT.at(
            model.place("instance_group", number, "count"),
            found=f"count {group.count}",
            expected="1 or more",
            remedy="set the number of instances",
        )


def check_profiles(model: Model, number: int, group: Any) -> Iterator[Finding]:
    """Optimization profiles are TensorRT's, and are numbers."""
    tensorrt = model.config.platform == "tensorrt_plan"
    for index, profile in enumerate(group.profile):
        if not tensorrt or not profile.strip().lstrip("+")[:1].isdigit():
            yield PROFILE.at(
                model.place("instance_group", number, "profile", index),
                found=f"profile '{profile}' on platform '{model.config.platform}'",
                expected="a number from 0, for a TensorRT model",
                remedy="correct it" if tensorrt else "remove it",
            )


def check_resources(model: Model) -> Iterator[Finding]:
    """A resource is shared by all devices everywhere, or nowhere."""
    seen: dict[str, bool] = {}
    for number, group in enumerate(model.config.instance_group):
        for index, resource in enumerate(group.rate_limiter.resources):
            everywhere = getattr(resource, "global")
            if seen.setdefault(resource.name, everywhere) != everywhere:
                yield RESOURCE.at(
                    model.place("instance_group", number, "rate_limiter", 0, "resources", index),
                    found=f"resource '{resource.name}' is global here and not elsewhere, or the other way round",
                    expected="the same everywhere",
                    remedy="set global in both or in none",
                )


def check_without_gpu(model: Model) -> Iterator[Finding]:
    """What a model asks for that a server without a GPU does not have.

    Not the config.pbtxt of a model that has another one for such servers.
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
                found=f"gpus {list(group.gpus)}, where KIND_AUTO becomes KIND_CPU",
                expected="no gpus on a server without a GPU",
                remedy="remove gpus",
            )
    if model.config.optimization.HasField("cuda"):
        yield NO_GPU_CONFIG.at(
            model.place("optimization", 0, "cuda"),
            found="optimization.cuda",
            expected="nothing about CUDA on a server without a GPU",
            remedy="remove it from the config for that server",
        )
