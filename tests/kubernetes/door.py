"""The door of the manifests before servers that stand for pods: addresses of their own, the same ports, one name."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from clients.lifetime import leashed
from tests.kubernetes.names import Names
from tests.kubernetes.rendering import container, rendered
from tools.front.door import haproxy
from tools.ports import choose_ports
from tools.repository import ROOT
from tools.serve.tritonserver import Options, Server


def here(words: list[str], places: Mapping[str, str | Path]) -> list[str]:
    """A command line with what it names in a pod replaced by what is there instead."""
    for inside, outside in places.items():
        words = [word.replace(inside, str(outside)) for word in words]
    return words


def pods_of_one_name(repository: Path, count: int) -> list[Server]:
    """Servers to be started, at 127.0.0.2, 127.0.0.3 and so on."""
    http, grpc, metrics = choose_ports("127.0.0.2", [0, 0, 0])
    hosts = [f"127.0.0.{2 + number}" for number in range(count)]
    return [Server(Options(repository, host, http_port=http, grpc_port=grpc, metrics_port=metrics)) for host in hosts]


@contextmanager
def door(folder: Path, names: Names, servers: list[Server]) -> Iterator[str]:
    """HAProxy with the configuration that the door's init step writes, asking our name server; yields its address."""
    http, grpc = (address.rpartition(":")[2] for address in (servers[0].http, servers[0].grpc))
    front, operator = choose_ports("127.0.0.1", [0, 0])
    places = {
        "--server $TRITON:8001": f"--server {servers[0].grpc} --socket {folder / 'admin.sock'}",
        "$TRITON:8000": f"$TRITON:{http}",
        "$TRITON:8001": f"$TRITON:{grpc}",
        " /front ": f" {folder / 'front'} ",
        "0.0.0.0:8443": f"127.0.0.1:{front}",
        "0.0.0.0:8004": f"127.0.0.1:{operator}",
    }
    line = here(container(rendered("cpu"), "front", "config")["command"], places)
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TRITON": "pods.test", "FRONT_OPTIONS": ""}
    subprocess.run(line, cwd=ROOT, env={**os.environ, **own}, check=True, timeout=60)
    config = folder / "front" / "haproxy.cfg"
    config.write_text(config.read_text().replace("parse-resolv-conf", f"nameserver test 127.0.0.1:{names.port}"))
    with (folder / "access.log").open("wb") as log:
        line = leashed([haproxy(), "-db", "-f", str(config)])
        process = subprocess.Popen(line, cwd=config.parent, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"127.0.0.1:{front}"
    finally:
        process.terminate()
        process.wait(10)
