"""Clean up after an embedded server whose parent was killed and cannot do it (`kill -9`, out of memory).

    with Caretaker(backends, prefix, patience=10) as caretaker:
        subprocess.Popen(…, env={**os.environ, **caretaker.mark})

The caretaker is a shell that waits for the end of its standard input, a pipe from this process: however this process
ends, the pipe closes. It ends every process with the mark in its environment, which children of children inherit.
Leaving the block dismisses the caretaker, so the parent stops what it started before that.
"""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_MARK = "TRITON_CARETAKER"
# Arguments: the mark, the backend folder, the server's prefix in /dev/shm, and the seconds to shut down in.
SCRIPT = """
cat >/dev/null
marked() { grep -lszxF "$1" /proc/[0-9]*/environ | cut -d/ -f3; }
kill -TERM $(marked "$1")
left=$4
while [ "$left" -gt 0 ] && [ "$(marked "$1")" ]; do sleep 1; left=$((left - 1)); done
kill -KILL $(marked "$1")
rm -rf "$2" "/dev/shm/$3"*
"""


class Caretaker:
    """A process that outlives this one until it has cleaned up.

    Attributes:
        mark: what to add to the environment of a process that it is to end.
    """

    def __init__(self, folder: Path, shm_prefix: str, patience: int):
        self.mark = {_MARK: str(folder)}
        # A session of its own, so that Ctrl-C in our terminal does not reach it, and no mark of another caretaker.
        self._shell = subprocess.Popen(
            ["sh", "-c", SCRIPT, "caretaker", f"{_MARK}={folder}", str(folder), shm_prefix, str(patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != _MARK},
            start_new_session=True,
        )

    def __enter__(self) -> "Caretaker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Kill the whole session before its input ends: the shell and whatever it is running.
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        assert self._shell.stdin is not None
        self._shell.stdin.close()
