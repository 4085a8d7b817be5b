"""Servers on other hosts: where they are, by options or by a file that may change, and which models they have."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from google.protobuf.json_format import ParseDict
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.client import Client
from clients.command import address, positive
from clients.connection import Connection, is_address
from tools.front.options import Backend, FrontError, add_front_arguments
from tools.repository import REPOSITORY, model_names, read_config


def add_elsewhere_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the functions of this module read, and those of the door."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the configuration")
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--repository", type=Path, default=REPOSITORY, help="of the models")
    text = "or ask a running server for them, over gRPC"
    models.add_argument("--server", type=address, metavar="HOST:PORT", help=text)
    places = parser.add_mutually_exclusive_group(required=True)
    backend = partial(places.add_argument, "--backend", type=_backend, action="append")
    backend(metavar="NAME=HTTP,GRPC[,AGENT]", help="HOST:PORT of both protocols, and the port of its agent")
    text = "a line like that for each replica; a running door follows the file"
    places.add_argument("--backends", type=Path, metavar="FILE", help=text)
    text = "replicas that a backend's host name may stand for; they come and go as it is resolved (default: its first)"
    parser.add_argument("--addresses", type=positive, metavar="N", help=text)
    add_front_arguments(parser, required=True)


def _backend(text: str) -> Backend:
    name, _, places = text.partition("=")
    http, grpc, *agent = [*places.split(","), ""][:3]
    is_name = name.isascii() and name.isidentifier()
    if not (is_name and all(map(is_address, (http, grpc, f"agent:{agent[0] or 0}")))):
        raise argparse.ArgumentTypeError(f"expected NAME=HOST:PORT,HOST:PORT[,PORT], got '{text}'")
    return Backend(name, http, grpc, int(agent[0] or 0))


def backends_from(arguments: argparse.Namespace) -> Sequence[Backend]:
    """The replicas that the options name, or the file as it is now.

    Raises:
        FrontError: a line of the file is none of a replica, there is none, or two have one name.
        OSError: the file cannot be read.
    """
    named = arguments.backend or _listed(arguments.backends)
    backends = [each for backend in named for each in _replicas(backend, arguments.addresses)]
    names = [each.name for each in backends]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise FrontError(f"two replicas are called '{doubled[0]}'; give each a name of its own")
    return backends


def _listed(file: Path) -> list[Backend]:
    lines = [line.strip() for line in file.read_text().splitlines()]
    try:
        backends = [_backend(line) for line in lines if line and not line.startswith("#")]
    except argparse.ArgumentTypeError as error:
        raise FrontError(f"{file}: {error}") from error
    if not backends:
        raise FrontError(f"{file} names no replica")
    return backends


def _replicas(backend: Backend, addresses: int | None) -> list[Backend]:
    """One backend for each replica that the name may stand for."""
    if addresses is None:
        return [backend]
    return [replace(backend, name=f"{backend.name}{place}", is_shared=True) for place in range(addresses)]


def models_from(arguments: argparse.Namespace) -> list[ModelConfig]:
    """The configs of the models: the repository's, or those of a running server that are ready."""
    if arguments.server:
        with Client(Connection("grpc", arguments.server)) as client:
            names = {model["name"] for model in client.models() if model.get("state") == "READY"}
            return [ParseDict(client.config(name), ModelConfig()) for name in sorted(names)]
    return [read_config(model, repository=arguments.repository) for model in model_names(arguments.repository)]
