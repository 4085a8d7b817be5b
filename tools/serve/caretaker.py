"""Clean up after an embedded server whose parent was killed and cannot do it (`kill -9`, out of memory).

    with Caretaker(backends, prefix, patience=10) as caretaker:
        caretaker.look_after(process.pid)

The caretaker is a shell that waits for the end of its standard input, a pipe from this process: however this process
ends, the pipe closes. Leaving the block dismisses the caretaker, so the parent stops the server before that.
"""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

# Reads the server's process id, which is also its session's. Arguments: the backend folder, the server's prefix in
# /dev/shm, and the seconds that the server has to shut down.
SCRIPT = """
read -r server
cat >/dev/null
if [ "$server" ]; then
  kill -TERM "$server"
  left=$3
  while [ "$left" -gt 0 ] && kill -0 "$server"; do sleep 1; left=$((left - 1)); done
  kill -KILL "-$server"
fi
rm -rf "$1" "/dev/shm/$2"*
"""


class Caretaker:
    """A process that outlives this one until it has cleaned up."""

    def __init__(self, folder: Path, shm_prefix: str, patience: int):
        # A session of its own, so that Ctrl-C in our terminal does not reach it.
        self._shell = subprocess.Popen(
            ["sh", "-c", SCRIPT, "caretaker", str(folder), shm_prefix, str(patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def look_after(self, server: int) -> None:
        """Name the server to stop; until then the caretaker only removes the folder."""
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):
            self._shell.stdin.write(f"{server}\n".encode())
            self._shell.stdin.flush()

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
