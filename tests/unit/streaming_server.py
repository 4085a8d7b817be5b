"""A server of streams over HTTP whose every message has a known time: generate_stream, and completions as OpenAI's.

The prompt says what happens to it: it may be refused, or the stream may break off or report an error. Other prompts are
answered with MESSAGES, each written in two parts, so that no reader can rely on where a read ends.
"""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MESSAGES = ((0.05, 1), (0.09, 2), (0.12, 0), (0.15, 1))  # seconds after the request, and tokens
REFUSED, BREAKS, FAILS = "refused", "breaks", "fails"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _events(path: str, tokens: int, so_far: int) -> Iterator[dict[str, Any]]:
    if "generate_stream" in path:
        yield {"text_output": "a" * tokens, "num_output_tokens": tokens, "num_input_tokens": 9}
        return
    usage = {"prompt_tokens": 9, "completion_tokens": so_far}
    if "counting" in path:
        yield {"choices": [{"text": "a" * tokens}], "usage": usage}
    else:
        yield {"choices": [{"delta": {"content": "a" * tokens}}]}
    if so_far == sum(count for _, count in MESSAGES):
        yield {"choices": [], "usage": usage}


async def _write(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    text = f"data: {json.dumps(event)}\n\n".encode()
    chunk = f"{len(text):x}\r\n".encode() + text + b"\r\n"
    for part in (chunk[:7], chunk[7:]):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.001)


async def _answer(path: str, prompt: str, writer: asyncio.StreamWriter) -> None:
    if prompt == REFUSED:
        body = b'{"error": "too long"}'
        writer.write(f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        return
    loop, so_far = asyncio.get_running_loop(), 0
    start = loop.time()
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for seconds, tokens in MESSAGES:
        await asyncio.sleep(start + seconds - loop.time())
        so_far += tokens
        for event in _events(path, tokens, so_far):
            await _write(writer, event)
        if prompt == BREAKS:
            writer.close()
            return
    if prompt == FAILS:
        await _write(writer, {"error": {"message": "out of memory"}})
    writer.write(b"0\r\n\r\n")


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            assert length
            asked = json.loads(await reader.readexactly(int(length[1])))
            await _answer(head.split()[1].decode(), asked.get("text_input") or asked.get("prompt"), writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@contextmanager
def streaming() -> Iterator[str]:
    """Serve in a thread; yields HOST:PORT."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
