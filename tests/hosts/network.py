"""Several hosts on one machine: network namespaces with an address each, all on one bridge.

They lie in a mount and a network namespace of this process's own. So nothing outside is touched, no name clashes with
another run's, and the kernel removes all of it with its last process, also after `kill -9`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from clients.errors import ToolError

_INSIDE = "TESTS_HOSTS_NAMESPACE"
_PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "haproxy": "haproxy"}
_TRY = "mount -t tmpfs none /run && ip netns add a && ip link add a-bridge type bridge && ip netns exec a true"
_BRIDGE, _NET = "hosts", "10.77.0"
# Of a link that is slow: as netem makes it, or, where the kernel lacks that, by a bucket that fills slowly.
_DELAY = ("netem", "delay", "150ms", "30ms")
_TRICKLE = ("tbf", "rate", "80kbit", "burst", "2kb", "latency", "600ms")


@dataclass(frozen=True)
class Host:
    """A namespace and its address."""

    name: str
    address: str

    def line(self, words: Sequence[str]) -> list[str]:
        """The command line that runs another one on this host."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *words]


def lacking() -> str:
    """Why there can be no such hosts here; empty if there can."""
    variables = _variables()
    found = {program: shutil.which(program, path=variables["PATH"]) for program in _PROGRAMS}
    if missing := {_PROGRAMS[program] for program, path in found.items() if not path}:
        return f"{', '.join(sorted(missing))} is not installed (apt install {' '.join(sorted(missing))})"
    tried = subprocess.run([*_own(), "sh", "-c", _TRY], capture_output=True, text=True, env=variables)
    return f"no network namespaces are granted here: {tried.stderr.strip()}" if tried.returncode else ""


def _variables() -> dict[str, str]:
    """The environment, with the folders that Debian leaves out of PATH for all but root."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def _own() -> list[str]:
    return ["unshare", "--mount", "--net", "--propagation", "private", *(["--map-root-user"] if os.getuid() else [])]


def enter(module: str) -> None:
    """Run a command again in namespaces of its own, unless it is in them; raises ToolError if there are none."""
    if _INSIDE not in os.environ:
        if reason := lacking():
            raise ToolError(reason)
        own = _own()
        os.execvpe(own[0], [*own, sys.executable, "-m", module, *sys.argv[1:]], {**_variables(), _INSIDE: "1"})


def connect(names: Sequence[str]) -> list[Host]:
    """Make hosts, and connect them with each other and with this process; once per process."""
    for folder in ("/run", "/dev/shm"):
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    _ip("link set lo up", f"link add {_BRIDGE} type bridge", f"addr add {_NET}.1/24 dev {_BRIDGE}")
    _ip(f"link set {_BRIDGE} up")
    hosts = [Host(name, f"{_NET}.{number}") for number, name in enumerate(names, 11)]
    for host in hosts:
        _ip(f"netns add {host.name}", f"link add name {host.name} type veth peer name eth0 netns {host.name}")
        _ip(f"link set {host.name} master {_BRIDGE} up", f"-n {host.name} link set lo up")
        _ip(f"-n {host.name} addr add {host.address}/24 dev eth0", f"-n {host.name} link set eth0 up")
    return hosts


@contextmanager
def cut_off(host: Host) -> Iterator[None]:
    """Take a host's link down within the block: what is sent to it vanishes, nobody is told."""
    _ip(f"link set {host.name} down")
    try:
        yield
    finally:
        _ip(f"link set {host.name} up")


@contextmanager
def slow(host: Host) -> Iterator[None]:
    """Make a host's link slow in both directions within the block."""
    ends = (["dev", host.name], ["dev", "eth0"]), ([], ["-n", host.name])
    for device, place in zip(*ends, strict=True):
        subprocess.run(["tc", *place, "qdisc", "add", *device, "root", *_slowness()], check=True)
    try:
        yield
    finally:
        for device, place in zip(*ends, strict=True):
            subprocess.run(["tc", *place, "qdisc", "del", *device, "root"], check=True)


def slowness() -> str:
    """How a link is made slow here, in words of `tc`."""
    return " ".join(_slowness())


def _slowness() -> tuple[str, ...]:
    tried = subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", *_DELAY], capture_output=True)
    if tried.returncode:
        return _TRICKLE
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
    return _DELAY


def _ip(*lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True)
