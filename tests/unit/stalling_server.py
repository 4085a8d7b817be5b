"""A V2 server over HTTP whose every latency is known: after a millisecond it answers, but for stalls at known moments.

    python tests/unit/stalling_server.py        # prints its port, serves until it is killed

It stalls in the first STALL_S of every PERIOD_S of CLOCK_MONOTONIC, which all processes of a host share: what comes
meanwhile is answered at the end of the stall. So whoever knows when a request was due knows how long it had to wait.
Further "models" fail in their own ways.
"""

import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from loadtest.generator.clock import precise_loop

PERIOD_S = 4.0
STALL_S = 0.4
SERVICE_S = 0.001
SLOW_S = 0.05
QUICK, SLOW, STALLS, FAILS, BREAKS, SILENT, SHORT = "quick", "slow", "stalls", "fails", "breaks", "silent", "short"
ENDS = "ends"  # the connection, without a word, behind each answer
HEAD = re.compile(rb"([A-Z]+) (\S+) HTTP/1.1\r\n(?:.*\r\n)*?\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def wait_at(moment: float) -> float:
    """How long a request of this moment (CLOCK_MONOTONIC, seconds) waits for its answer."""
    return max(SERVICE_S, STALL_S - moment % PERIOD_S)


def config(model: str) -> dict[str, object]:
    tensors = {name: [{"name": name, "data_type": "TYPE_FP32", "dims": ["4"]}] for name in ("input", "output")}
    return {"name": model, "max_batch_size": 8, **tensors}


class Connection(asyncio.Protocol):
    """One client's requests, one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while head := HEAD.match(self.received):
            length = LENGTH.search(head[0])
            end = head.end() + int(length[1] if length else 0)
            if len(self.received) < end:
                return
            self.received = self.received[end:]
            self.serve(head[2].decode())

    def serve(self, path: str) -> None:
        if not path.endswith("/infer"):
            model = path.removeprefix("/v2/models/").removesuffix("/config")
            known = {"/v2/models/stats": {"model_stats": []}}
            self.answer(json.dumps(known.get(path, config(model))).encode())
            return
        model = path.split("/")[-2]
        if model == FAILS:
            self.answer(b'{"error":"no <b>luck</b>"}', "500 Internal Server Error")
        elif model == BREAKS:
            self.transport.close()
        elif model == SHORT:
            self.answer(b"{}")
        elif model == ENDS:
            self.answer(b"{}" + bytes(16))
            self.transport.close()
        elif model != SILENT:
            loop = asyncio.get_running_loop()
            wait = {QUICK: 0.0, SLOW: SLOW_S, STALLS: wait_at(loop.time())}[model]
            loop.call_later(wait, self.answer, b"{}" + bytes(16))

    def answer(self, body: bytes, status: str = "200 OK") -> None:
        self.transport.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    # A stall must end when it should, however busy the host is: it goes before the generator, too.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(serve())
