"""A name server whose one answer a test changes: what a headless Service's name stands for."""

import socket
import threading
from types import TracebackType

_QUESTION = 12  # bytes of header before it
_A = 1


class Names:
    """Answers every question for an IPv4 address with `addresses`, until the end of its `with` block.

    Attributes:
        port: of 127.0.0.1, UDP.
        addresses: may be replaced at any time.
    """

    def __init__(self, *addresses: str):
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Names":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while (received := self._socket.recvfrom(4096))[0]:
            query, asker = received
            self._socket.sendto(answer(query, self.addresses), asker)


def answer(query: bytes, addresses: tuple[str, ...]) -> bytes:
    """The answer to a query: its question, and an A record for each address if it asks for those."""
    end = query.index(b"\0", _QUESTION) + 5
    is_asked = int.from_bytes(query[end - 4 : end - 2], "big") == _A
    found = addresses if is_asked else ()
    # The same id; a response without an error; one question, the answers.
    header = query[:2] + b"\x81\x80\0\1" + len(found).to_bytes(2, "big") + bytes(4)
    # The name by reference; type A, class IN, to be kept for 5 s; four bytes.
    records = (b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + socket.inet_aton(address) for address in found)
    return header + query[_QUESTION:end] + b"".join(records)
