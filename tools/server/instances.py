"""The processes in which the embedded server runs its models, and the memory that each keeps to itself."""

from pathlib import Path

PRIVATE = ("Private_Clean:", "Private_Dirty:")


def instances(server: int) -> dict[int, str]:
    """Process ids of a tritonserver's model instances, and the model that each runs."""
    found = {}
    for child in Path(f"/proc/{server}/task").glob("*/children"):
        for pid in child.read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"triton_python_backend_stub"):
                # The stub's first argument is <model>/<version>/<file>.
                found[int(pid)] = Path(words[1].decode()).parent.parent.name
    return found


def private_bytes(pid: int) -> int:
    """Memory that would be free if this process ended: what it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(PRIVATE))
