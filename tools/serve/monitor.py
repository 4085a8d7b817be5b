"""How a service shows itself: an agent port per replica for load balancers; /ready, /metrics and /status over HTTP.

An agent port answers every connection with a word that HAProxy's agent check understands. /metrics is for Prometheus,
/ready is for probes of containers, /status is a JSON document for `clients.status`.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from tools.ports import address_of
from tools.serve.journal import Journal
from tools.serve.replica import AGENT_ANSWERS, Replica

if TYPE_CHECKING:
    from aiohttp import web


@asynccontextmanager
async def monitor(replicas: Sequence[Replica], page: socket.socket, journal: Journal) -> AsyncIterator[None]:
    """Answer at the replicas' agent ports, and at the page's socket, while the block lasts."""
    from aiohttp import web

    async with AsyncExitStack() as open_servers:
        for replica in replicas:
            await open_servers.enter_async_context(await asyncio.start_server(_answer(replica), sock=replica.agent))
        runner = web.AppRunner(_application(replicas, journal), access_log=None)
        await runner.setup()
        open_servers.push_async_callback(runner.cleanup)
        await web.SockSite(runner, page).start()
        yield


def document(replicas: Sequence[Replica], journal: Journal) -> dict[str, Any]:
    """What /status says."""
    return {"replicas": [_state(replica) for replica in replicas], "events": list(journal.latest)}


def _state(replica: Replica) -> dict[str, Any]:
    return {
        "name": replica.name,
        "state": replica.state,
        "starts": replica.starts,
        "deaths": replica.deaths,
        "agent": address_of(replica.agent),
        **replica.endpoints.addresses,
        "sick": replica.watchdog.ward.problems() if replica.watchdog else {},
    }


def _is_ready(replica: Replica) -> bool:
    """Whether it takes requests, and the watchdog has had a right answer of each of its models."""
    return replica.state == "up" and (replica.watchdog is None or replica.watchdog.is_satisfied)


def _answer(replica: Replica) -> Any:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{AGENT_ANSWERS[replica.state]}\n".encode())
        writer.close()

    return answer


def _application(replicas: Sequence[Replica], journal: Journal) -> "web.Application":
    from aiohttp import web
    from prometheus_client import generate_latest

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(journal.registry), content_type="text/plain", charset="utf-8")

    async def status(_: web.Request) -> web.Response:
        return web.json_response(document(replicas, journal))

    async def ready(_: web.Request) -> web.Response:
        states = {replica.name: _is_ready(replica) for replica in replicas}
        return web.json_response(states, status=200 if any(states.values()) else 503)

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/status", status), web.get("/ready", ready)])
    return application
