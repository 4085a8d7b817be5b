"""`python -m MODULE` in a fork of an interpreter that has imported the libraries: the same command, seconds sooner.

Before the fork none of our modules is loaded, no thread of a library runs and nothing is connected; afterwards the
module runs as `-m` runs it, and ends as any process does. Blocks of the documentation and whatever a test starts itself
still begin with a bare interpreter.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LIBRARIES = (
    *(
        "numpy",
        "torch",
        "torch._dynamo",
        "tritonclient.http",
        "tritonclient.http.aio",
        "tritonclient.grpc",
        "tritonclient.grpc.aio",
    ),
    *("google.protobuf.text_format", "scipy.stats", "vl_convert", "aiohttp", "PIL.Image", "rich.table"),
)
# What Python and OpenMP read before there is anything to fork.
_READ_EARLY = ("PYTHON", "OMP_", "LD_")


class Interpreter:
    """A process that turns into a command at each request; it ends with the one that started it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        line = [sys.executable, str(Path(__file__)), str(theirs.fileno())]
        # Python looks at what stdout is when it starts: pipes, as commands have them.
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(line, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, text=True, **pipes)
        theirs.close()

    def close(self) -> None:
        """End it; commands that run go on."""
        self._control.close()
        assert self._process.communicate(timeout=30) == ("", "")

    def run(
        self, module: str, *arguments: str, cwd: Path, timeout: float, variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m MODULE ARGUMENT…` with additional variables, as `subprocess.run` does."""
        env = {**os.environ, **variables}
        line = [sys.executable, "-m", module, *arguments]
        if any(name.startswith(_READ_EARLY) for name in variables):
            return subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
        said: list[str] = ["", ""]
        ours, theirs = socket.socketpair()
        pipes = [os.pipe(), os.pipe()]
        ends = [theirs.fileno(), *(write for _, write in pipes)]
        socket.send_fds(self._control, [b"\n"], ends)
        for end in (theirs.detach(), *ends[1:]):
            os.close(end)

        def read(place: int) -> None:
            with open(pipes[place][0], encoding="utf-8") as pipe:
                said[place] = pipe.read()

        readers = [threading.Thread(target=read, args=(place,)) for place in (0, 1)]
        for reader in readers:
            reader.start()
        with ours, ours.makefile("rw") as talk:
            json.dump([module, arguments, str(cwd), env], talk)
            print(file=talk, flush=True)
            pid = int(talk.readline())
            ours.settimeout(timeout)
            try:
                code = int(talk.readline())
            except TimeoutError:
                os.kill(pid, 9)
                raise subprocess.TimeoutExpired(line, timeout) from None
        for reader in readers:
            reader.join()
        return subprocess.CompletedProcess(line, code, *said)


def _next_command(control: socket.socket) -> tuple[int, ...]:
    """Wait for requests; returns in a child of its own for each, with the files of that request."""
    while True:
        said, files, _, _ = socket.recv_fds(control, 1, 3)
        if not said:
            os._exit(0)
        if not os.fork():
            control.close()
            return tuple(files)
        for file in files:
            os.close(file)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(files: Sequence[int]) -> str:
    """Fork once more: the parent tells the process id and the exit code, the child becomes the command; its module."""
    with socket.socket(fileno=files[0]) as connection, connection.makefile("rw") as talk:
        module, arguments, folder, environment = json.loads(talk.readline())
        if pid := os.fork():
            for file in files[1:]:
                os.close(file)
            print(pid, file=talk, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=talk, flush=True)
            os._exit(0)
    for target, file in enumerate(files[1:], 1):
        os.dup2(file, target)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.path[0], sys.argv[1:] = folder, arguments
    return str(module)


def _leave(codes: Sequence[int]) -> None:
    """End without taking the libraries down piece by piece, as the last of what is done at exit."""
    if codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0])


if __name__ == "__main__":
    codes: list[int] = []
    atexit.register(_leave, codes)
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    module = _become(_next_command(socket.socket(fileno=int(sys.argv[1]))))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            codes.append(end.code)
        raise
