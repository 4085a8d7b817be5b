"""The variant of a config for hosts without a GPU, `configs/cpu.pbtxt`, derived from config.pbtxt.

Triton reads it with `--model-config-name=cpu`. Tools write it and git ignores it, unless a user takes it over.
"""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from clients.output import write_atomically
from tools.repository import CPU_CONFIG, REPOSITORY, RepositoryError, config_path, read_config

DERIVED = "# Derived from ../config.pbtxt"


def is_derived(path: Path) -> bool:
    """Whether a file was derived, and may be overwritten; another one was tuned by hand or by a tool."""
    return path.read_bytes().startswith(DERIVED.encode())


def derive_cpu_config(config: ModelConfig) -> ModelConfig:
    """Derive the config for a host without a GPU: one CPU instance in place of the GPU instances.

    Further instances would share the same cores, and each would hold a copy of the weights.
    """
    derived = ModelConfig()
    derived.CopyFrom(config)
    gpu_kinds = (ModelInstanceGroup.KIND_GPU, ModelInstanceGroup.KIND_AUTO)
    for group in derived.instance_group:
        if group.kind in gpu_kinds:
            group.kind = ModelInstanceGroup.KIND_CPU
            group.count = 1
            del group.gpus[:]
    if derived.optimization.HasField("cuda"):
        derived.optimization.ClearField("cuda")
    return derived


def cpu_config_text(model: str, repository: Path = REPOSITORY) -> str:
    """Render configs/cpu.pbtxt."""
    body = text_format.MessageToString(derive_cpu_config(read_config(model, repository=repository)))
    return (
        f"{DERIVED} for hosts without a GPU, and overwritten: edit that file instead, or remove\n"
        f"# these two lines to keep this file as your own (commit it with `git add --force`).\n{body}"
    )


def write_cpu_config(model: str, repository: Path = REPOSITORY) -> Path:
    """Bring configs/cpu.pbtxt up to date with config.pbtxt; write it only when its content changes.

    A file that is not derived is left alone.

    Raises:
        RepositoryError: the file is stale and the repository is read-only.
    """
    path, text = config_path(model, CPU_CONFIG, repository), cpu_config_text(model, repository)
    if path.is_file() and (not is_derived(path) or path.read_text() == text):
        return path
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise RepositoryError(
            f"{path} is missing or older than config.pbtxt and cannot be written ({error.strerror}); "
            "`python -m tools.serve` writes it where the repository is writable"
        ) from error
    return path
