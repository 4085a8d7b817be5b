"""Tell systemd how a service is doing, where it asks for that ($NOTIFY_SOCKET): a datagram, no library."""

import os
import socket
from contextlib import suppress


def notify(*facts: str) -> None:
    """Send facts such as READY=1; does nothing without a service manager."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A service goes on where its manager does not listen.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall("\n".join(facts).encode())


def heartbeat_s() -> float | None:
    """Seconds between signs of life, half of what the service manager waits for them; None where it does not."""
    is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if is_ours and microseconds.isdigit() else None
