"""The files that HAProxy starts with, made from the options and from the configs of the models behind the door."""

import ipaddress
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from clients.connection import host_and_port
from clients.installation import CODE
from tools.front.options import Backend, FrontOptions

_HEADERS_AND_ROOM = 16 << 10  # beside a request's body in a buffer
_SOURCES = CODE / "deploy" / "haproxy"
CONFIG, SOCKET, KEYS, CERTIFICATE = "haproxy.cfg", "admin.sock", "keys.map", "door.pem"


def write_configuration(
    folder: Path,
    options: FrontOptions,
    models: Sequence[ModelConfig],
    backends: Sequence[Backend],
    socket: str = SOCKET,
) -> Path:
    """Write HAProxy's configuration and the files that it names into a folder; returns the configuration's path.

    Args:
        folder: for this configuration alone; nobody else should be able to read it.
        options: what is wanted, with ports above 0.
        models: configs of the models that are served.
        backends: what stands behind the door.
        socket: of the runtime API; a relative path begins where HAProxy is started.
    """
    import jinja2

    shutil.copy(_SOURCES / "inspect.lua", folder)
    (folder / "models.map").write_text("".join(f"{_classless(model)}\n" for model in models))
    if options.api_keys:
        shutil.copy(options.api_keys, folder / KEYS)
    if options.tls_cert:
        (folder / CERTIFICATE).touch(0o600)
        (folder / CERTIFICATE).write_text(certificate(options))
    if options.client_ca:
        shutil.copy(options.client_ca, folder / "clients.pem")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((_SOURCES / "haproxy.cfg.j2").read_text()).render(
        options=options,
        backends=backends,
        socket=shlex.quote(socket),
        streams=any(_needs_streams(model) for model in models),
        names=any(not _is_numeric(address) for each in backends for address in (each.http, each.grpc)),
        inspected=options.inspect << 10,
        buffer=(options.inspect << 10) + _HEADERS_AND_ROOM,
    )
    (folder / CONFIG).write_text(text)
    return folder / CONFIG


def certificate(options: FrontOptions) -> str:
    """The certificate with its chain and its key, in one text."""
    files = [file for file in (options.tls_cert, options.tls_key) if file]
    return "".join(f"{file.read_text().strip()}\n" for file in files)


def _classless(model: ModelConfig) -> str:
    """A model's line of the map: its outputs that 2.51 must not be asked to classify, which would end it.

    Those are texts, and outputs that may be empty.
    """
    names = [
        output.name
        for output in model.output
        if output.data_type == DataType.TYPE_STRING or min(output.dims, default=0) < 1
    ]
    return f"{model.name} {','.join(names) or '-'}"


def _needs_streams(model: ModelConfig) -> bool:
    """Whether callers of a model need gRPC streams: it answers several times, or a sequence."""
    return bool(model.model_transaction_policy.decoupled or model.HasField("sequence_batching"))


def _is_numeric(address: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host_and_port(address)[0]))
    except ValueError:
        return False
