"""The component models-s3, as far as it can be tried without NVIDIA's container: its command line and variables.

The embedded tritonserver reads the models from moto, which answers as S3 does.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from clients.client import Client
from clients.connection import Connection
from clients.lifetime import leashed
from tests.e2e.serving import CONFIG, add_sleeper, sleep_on
from tests.kubernetes.environments import program
from tests.kubernetes.rendering import container, rendered
from tests.waiting import soon
from tools.ports import choose_ports
from tools.serve.wheel import assemble_backends, environment, wheel_path

MOTO = "moto[server]==5.2.5"
HOST = "127.0.0.1"


def put(url: str, body: bytes = b"") -> None:
    # moto would take another type for a form.
    urlopen(Request(url, body, {"Content-Type": "application/octet-stream"}, method="PUT")).close()


def is_made(bucket: str) -> bool:
    with suppress(URLError):
        put(bucket)
        return True
    return False


@contextmanager
def bucket(repository: Path) -> Iterator[str]:
    """A bucket with the files of a repository; yields its URL for Triton."""
    (port,) = choose_ports(HOST, [0])
    server = program("moto_server", MOTO)
    process = subprocess.Popen(leashed([str(server), "--host", HOST, "--port", str(port)]), stderr=subprocess.DEVNULL)
    try:
        assert soon(lambda: is_made(f"http://{HOST}:{port}/bucket"))
        for path in filter(Path.is_file, repository.rglob("*")):
            put(f"http://{HOST}:{port}/bucket/models/{path.relative_to(repository)}", path.read_bytes())
        yield f"s3://http://{HOST}:{port}/bucket/models"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.slow
def test_triton_serves_the_models_of_a_bucket(tmp_path: Path) -> None:
    repository = add_sleeper(tmp_path / "models")
    (repository / "sleeper" / "config.pbtxt").write_text(CONFIG.format(name="sleeper").replace("KIND_GPU", "KIND_CPU"))
    pod = container(rendered("gpu, s3, all"), "triton", "triton")
    http, grpc, metrics = choose_ports(HOST, [0, 0, 0])
    for folder in ("backends", "models-of-pod", "secrets"):
        (tmp_path / folder).mkdir()
    (tmp_path / "secrets" / "credentials").write_text("[default]\naws_access_key_id = x\naws_secret_access_key = y\n")
    places = {"/models": str(tmp_path / "models-of-pod"), "/secrets": str(tmp_path / "secrets")}
    own = {each["name"]: re.sub("^/[a-z]+", lambda found: places[found[0]], each["value"]) for each in pod["env"]}
    assemble_backends(tmp_path / "backends", None)
    with bucket(repository) as url:
        flags = [word.replace("$(MODEL_REPOSITORY)", url) for word in pod["args"][1:]]
        beside = [f"--backend-directory={tmp_path / 'backends'}", f"--http-port={http}", f"--grpc-port={grpc}"]
        line = [str(wheel_path("pytriton") / "tritonserver" / "bin" / "tritonserver"), *flags, *beside]
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            leashed([*line, f"--metrics-port={metrics}"]),
            env={**environment(), "AWS_DEFAULT_REGION": "us-east-1", **own},
            stdout=log,
            stderr=log,
        )
        try:
            with Client(Connection("http", f"{HOST}:{http}", retries=0)) as client:
                assert soon(client.is_ready, 60), (tmp_path / "log").read_text()
            assert sleep_on(f"{HOST}:{grpc}", 0.0) == 0.0
            assert list((tmp_path / "models-of-pod").rglob("model.py"))
        finally:
            process.terminate()
            process.wait(60)
            log.close()
