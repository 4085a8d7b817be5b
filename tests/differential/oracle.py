"""The real tritonserver as an oracle: which models of a repository it loads, and why it refuses the others.

A running server in explicit mode gives a verdict in milliseconds. Its backends are stubs (backend.c), so that the
verdict is the core's alone.
"""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clients.errors import ToolError
from tools.serve.tritonserver import Options, Server

BACKENDS = ("alpha", "onnxruntime", "openvino", "python", "pytorch", "tensorflow", "tensorrt", "vllm")
DIED = "tritonserver died"
KEEPER = 'name: "keeper" backend: "alpha"'
COMPILER = shutil.which("gcc") or shutil.which("cc")


class Oracle:
    """A tritonserver that gives verdicts, as a context manager; a server that dies is replaced."""

    def __init__(self, folder: Path):
        self.repository = folder / "models"
        self.backends = folder / "backends"
        self.deaths: list[str] = []
        self._exit = ExitStack()

    def __enter__(self) -> "Oracle":
        (self.repository / "keeper" / "1").mkdir(parents=True)
        (self.repository / "keeper" / "config.pbtxt").write_text(KEEPER)
        self.backends.mkdir(parents=True)
        _make_backends(self.backends)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        flags = (
            "--model-control-mode=explicit",
            f"--backend-directory={self.backends}",
            "--cache-config=local,size=1048576",
            "--allow-grpc=false",
            "--allow-metrics=false",
            # After a refused load tritonserver spends its whole exit timeout.
            "--exit-timeout-secs=1",
        )
        self._server = self._exit.enter_context(Server(Options(self.repository, hardware="cpu", flags=flags)))
        self._http = http.client.HTTPConnection(self._server.http, timeout=60)
        # An open connection would delay the server's exit.
        self._exit.callback(self._http.close)

    def verdict(self, model: str) -> str | None:
        """Why the server refuses to load a model of `repository`, or None if it loads; all are unloaded again.

        A single death is no verdict: now and then 2.51 dies on a model that it accepts a moment later.
        """
        for _ in range(2):
            try:
                return self._load(model)
            except (OSError, http.client.HTTPException) as error:
                self.deaths.append(f"{error!r}: {self._server.log_tail(5)}")
                self._exit.close()
                self._start()
        return DIED

    def _load(self, model: str) -> str | None:
        status, answer = self._post(f"/v2/repository/models/{model}/load", {})
        # The models of a refused ensemble stay loaded, and would stand in for those of the next one.
        for folder in self.repository.iterdir():
            self._post(f"/v2/repository/models/{folder.name}/unload", {})
        return None if status == 200 else str(answer["error"])

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        self._http.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._http.getresponse()
        text = response.read()
        # A message may contain arbitrary bytes: 2.51 reads past the end of a map if the model of a step is not loaded.
        return response.status, json.loads(text.decode(errors="replace"), strict=False) if text else {}


@contextmanager
def oracle() -> Iterator[Oracle]:
    """Run an oracle in a temporary folder."""
    with TemporaryDirectory(prefix="oracle-") as folder, Oracle(Path(folder)) as running:
        yield running


def _make_backends(folder: Path) -> None:
    """Compile a stub of each of BACKENDS."""
    if COMPILER is None:
        raise ToolError("the stubs of backends need a C compiler (Debian, Ubuntu: apt install gcc)")
    for name in BACKENDS:
        (folder / name).mkdir()
    library = folder / BACKENDS[0] / f"libtriton_{BACKENDS[0]}.so"
    source = Path(__file__).with_name("backend.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    for name in BACKENDS[1:]:
        os.link(library, folder / name / f"libtriton_{name}.so")
