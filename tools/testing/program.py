"""A model.py with its config, as files: what is loaded, in this process or by a server."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict, ParseDict
from tritonclient.grpc.model_config_pb2 import DESCRIPTOR, ModelConfig

from clients.contract import Array, Contract
from clients.wire import contract_from
from tools.cpu_config import derive_cpu_config
from tools.repository import RepositoryError, read_config

Arrays = Mapping[str, Array]
# A function of a test that plays another model: several answers where that one is decoupled.
Play = Callable[[Arrays], Arrays | Iterable[Arrays]]


@dataclass(frozen=True)
class Program:
    """A model of the Python backend.

    Attributes:
        file: its model.py, in the folder of a version.
        config: for a host without a GPU.
        plays: functions that answer its requests to other models, and the configs of those.
    """

    file: Path
    config: ModelConfig
    plays: Mapping[str, tuple[Play, ModelConfig]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.config.name)

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return self.file.parent.parent


def read_program(file: Path, config: str | None, plays: Mapping[str, Play]) -> Program:
    """Read a model.py's config, or take `config` (in the form of config.pbtxt) for it; and those of other models.

    Raises:
        RepositoryError: a file is missing, or a config is none.
    """
    if not file.is_file():
        raise RepositoryError(f"{file} does not exist; give the path of a model.py")
    folder, repository = file.parent.parent, file.parent.parent.parent
    try:
        given = None if config is None else text_format.Parse(config, ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"the config for {file}: {error}") from error
    own = read_config(folder.name, repository=repository) if given is None else given
    own.name = own.name or folder.name
    others = {name: (play, read_config(name, repository=repository)) for name, play in plays.items()}
    return Program(file, _on_cpu(own), {name: (play, _on_cpu(other)) for name, (play, other) in others.items()})


def _on_cpu(config: ModelConfig) -> ModelConfig:
    derived = derive_cpu_config(config)
    if not derived.instance_group:
        derived.instance_group.add(kind="KIND_CPU")
    return derived


def contract_of(config: Mapping[str, Any]) -> Contract:
    """A model's contract, from its config as Triton's JSON."""
    return contract_from({}, dict(config))


def is_decoupled(config: ModelConfig) -> bool:
    """Whether a model may answer a request any number of times."""
    return bool(config.model_transaction_policy.decoupled)


_MESSAGES = DESCRIPTOR.message_types_by_name.values()
_LONG = {
    field.name
    for message in itertools.chain(_MESSAGES, *(each.nested_types for each in _MESSAGES))
    for field in message.fields
    if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
}


def config_json(config: ModelConfig) -> dict[str, Any]:
    """A config as Triton passes it to a model: with all defaults, and numbers as numbers."""
    full = ModelConfig()
    full.CopyFrom(config)
    _fill(full)
    document = MessageToDict(full, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    completed: dict[str, Any] = _with_numbers(document)
    return completed


def _fill(config: ModelConfig) -> None:
    """Set what Triton sets where a config is silent."""
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    for side in ("input_pinned_memory", "output_pinned_memory"):
        if not config.optimization.HasField(side):
            getattr(config.optimization, side).enable = True
    for number, group in enumerate(config.instance_group):
        group.name, group.count = group.name or f"{config.name}_{number}", group.count or 1
    config.default_model_filename = config.default_model_filename or "model.py"
    if config.HasField("dynamic_batching") and not config.dynamic_batching.preferred_batch_size:
        config.dynamic_batching.preferred_batch_size.append(config.max_batch_size)


def _with_numbers(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _with_numbers(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item, key) for item in value]
    return int(value) if key in _LONG and isinstance(value, str) else value


def config_from(document: Mapping[str, Any]) -> ModelConfig:
    """The reverse, after a model has completed its config."""
    parsed: ModelConfig = ParseDict(dict(document), ModelConfig(), ignore_unknown_fields=True)
    return parsed


def arguments(program: Program, config: Mapping[str, Any]) -> dict[str, str]:
    """What `initialize` is given."""
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": "CPU",
        "model_instance_name": f"{program.name}_0_0",
        "model_instance_device_id": "0",
        "model_repository": str(program.folder),
        "model_version": program.file.parent.name,
        "model_name": program.name,
    }
