"""The door as a process: HAProxy, from its configuration to its end.

with Front(options, models, backends) as front:
    front.set_state("replica0", "draining")
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.connection import at_port
from clients.lifetime import leashed
from tools.front import runtime
from tools.front.configuration import CONFIG, SOCKET, certificate, write_configuration
from tools.front.keys import read_keys
from tools.front.options import Backend, FrontError, FrontOptions
from tools.ports import listening

_START_S, _STOP_S, _WATCH_S = 10.0, 5.0, 0.5
_INSTALL = "install it (Debian, Ubuntu: apt install haproxy; Fedora: dnf install haproxy; macOS: brew install haproxy)"


class Front:
    """A HAProxy that runs until the end of its `with` block, and again should it die; it drains before it ends.

    API keys and certificates whose files change are put to use at once, without a restart. Its folder, which nobody
    else should be able to read, gets its configuration; `environment` is added to HAProxy's environment.

    Attributes:
        address, operator: HOST:PORT of callers and of operators.

    Raises:
        PortError: an address cannot be listened at.
        FrontError: on entry if HAProxy is not installed or does not start.
    """

    def __init__(
        self,
        folder: Path,
        options: FrontOptions,
        models: Sequence[ModelConfig],
        backends: Sequence[Backend],
        on_log: Callable[[str], None] = lambda text: None,
        environment: Mapping[str, str] | None = None,
    ):
        self.folder = folder
        self._options = replace(options, front=_with_port(options.front), operator=_with_port(options.operator))
        self.address, self.operator = self._options.front, self._options.operator
        self._models, self._backends = models, backends
        self._on_log, self._said = on_log, ""
        self._environment = {**os.environ, **(environment or {})}
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # of the process
        self._finishing: list[subprocess.Popen[bytes]] = []  # those that another one has taken over from

    def __enter__(self) -> "Front":
        self._program = haproxy()
        self._start()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._process.send_signal(signal.SIGUSR1)  # Requests that are under way are answered.
            deadline = time.monotonic() + _STOP_S
            for process in (self._process, *self._finishing):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
                _end(process)
            self._stopping.set()
        # Not before: a HAProxy that it has started would be ended with it (clients/lifetime.py).
        self._watcher.join()

    def replace_backends(self, backends: Sequence[Backend]) -> None:
        """Stand before others from now on: another HAProxy takes over, and this one answers what it has begun.

        Raises:
            FrontError: that one does not start; all is as it was.
        """
        with self._lock:
            before, self._backends = self._backends, backends
            try:
                self._start(self._process)
            except (FrontError, OSError):
                self._backends = before
                raise

    def set_state(self, name: str, state: str) -> None:
        """Pass on a replica's new state: starting, up, draining or down.

        Where that fails, HAProxy hears it a moment later from the replica's agent.
        """
        try:
            runtime.set_state(self.folder, name, state)
        except FrontError as error:
            self._say(f"front door: {error}")

    def in_flight(self, name: str) -> int | None:
        """How many requests a replica has under way; None where HAProxy does not say."""
        with suppress(FrontError):
            return runtime.in_flight(self.folder, name)
        return None

    @property
    def pid(self) -> int:
        """Process id of HAProxy."""
        return self._process.pid

    def _start(self, before: "subprocess.Popen[bytes] | None" = None) -> None:
        """Start HAProxy, which takes over from one that runs, if there is one."""
        # Anew each time: a key may have been revoked since the last one.
        self._seen = self._times()
        write_configuration(self.folder, self._options, self._models, self._backends)
        line = [self._program, "-db", "-f", str(self.folder / CONFIG)]
        line += ["-x", SOCKET, "-sf", str(before.pid)] if before else []
        log = self._options.access_log
        with (self.folder / "log").open("ab") as errors, Path(log or os.devnull).open("ab") as requests:
            began = errors.tell()
            process = subprocess.Popen(
                leashed(line),
                cwd=self.folder,
                env=self._environment,
                stdout=requests,
                stderr=errors,
                # Ctrl-C in a terminal must reach only us.
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                _end(process)
                raise FrontError(f"HAProxy does not start:\n{self._logged(began)}")
            time.sleep(0.02)
        self._process = process
        self._finishing = [each for each in (*self._finishing, *filter(None, (before,))) if each.poll() is None]

    def _logged(self, start: int) -> str:
        """What it has logged since then, without process ids: the same trouble in the same words."""
        text = (self.folder / "log").read_bytes()[start:].decode(errors="replace")
        return re.sub(r"^(\[\w+\]) +\(\d+\)", r"\1", text, flags=re.MULTILINE).strip()

    def _answers(self, pid: int) -> bool:
        with suppress(FrontError):
            return f"\nPid: {pid}\n" in runtime.ask(self.folder, "show info")
        return False

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_S):
            try:
                with self._lock:
                    if self._stopping.is_set():
                        return
                    if (code := self._process.poll()) is not None:
                        self._start()
                        self._on_log(f"HAProxy ended with exit code {code} and was started again")
                        self._said = ""
                    self._follow_files()
            except (FrontError, OSError) as error:
                self._say(f"front door: {error}")

    def _follow_files(self) -> None:
        """Put keys and certificates to use that have changed; what fails is tried again, and holds up nothing else."""
        now = self._times()
        try:
            if now[0] != self._seen[0] and (keys := self._options.api_keys):
                runtime.replace_keys(self.folder, read_keys(keys))
                self._seen[0] = now[0]
        finally:
            if now[1:] != self._seen[1:]:
                runtime.replace_certificate(self.folder, certificate(self._options))
                self._seen[1:] = now[1:]

    def _times(self) -> list[int]:
        options = self._options
        files = (options.api_keys, options.tls_cert, options.tls_key)
        return [file.stat().st_mtime_ns if file else 0 for file in files]

    def _say(self, text: str) -> None:
        # A trouble that lasts is told once.
        if text != self._said:
            self._on_log(text)
        self._said = text


def haproxy() -> str:
    """HAProxy's path.

    Raises:
        FrontError: it is not installed.
    """
    if found := shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        return found
    raise FrontError(f"the front door is HAProxy, which is not on PATH; {_INSTALL}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _with_port(address: str) -> str:
    """The address, with a free port in place of 0."""
    with listening(address) as held:
        return at_port(address, held.getsockname()[1])
