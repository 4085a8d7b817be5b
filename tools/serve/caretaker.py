"""Cleans up after an embedded server whose parent is killed and can do nothing itself (`kill -9`, out of memory).

    with Caretaker(backends, prefix, patience=10) as caretaker:
        caretaker.look_after(process.pid)

It is a shell that waits for the end of its standard input, a pipe from us: when we are gone, however we went, the
pipe ends. Leaving the block dismisses it, so the parent itself stops the server first.
"""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

# It reads the server's process id, which is its session's too. Arguments: the backend folder, the server's prefix in
# /dev/shm, and the seconds that the server gets to stop in good order.
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
    """A process that outlives this one for as long as there is something to clean up."""

    def __init__(self, folder: Path, shm_prefix: str, patience: int):
        # In a session of its own: Ctrl-C in our terminal must not reach it.
        self._shell = subprocess.Popen(
            ["sh", "-c", SCRIPT, "caretaker", str(folder), shm_prefix, str(patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def look_after(self, server: int) -> None:
        """Say which process it is about; until then it only removes the folder."""
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):
            self._shell.stdin.write(f"{server}\n".encode())
            self._shell.stdin.flush()

    def __enter__(self) -> "Caretaker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The whole session, before its input ends: the shell and whatever it runs just now.
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        assert self._shell.stdin is not None
        self._shell.stdin.close()
