"""Route traffic to Triton, try a candidate on a share of it, and show a page: `python -m clients.router`.

The router shows a page at / on which people try the models, answers OpenAI's API itself (/v1/chat/completions,
/v1/completions, /v1/models), by way of Triton's gRPC, and passes everything else through, HTTP and gRPC. During a
trial, a share of the inference requests for its model goes to the model and to the candidate at once, whichever way
they came. A caller of a "canary" gets the candidate's answer, or the model's if the candidate fails or is late; a
caller of a "shadow" always gets the model's. The evidence and the decision of a trial are served at another address,
which callers need not reach; `python -m tools.versions MODEL rollout` begins trials and acts on the decision.

    python -m clients.router --upstream 127.0.0.1:8000 --listen 127.0.0.1:8080 --control 127.0.0.1:8081
    python -m clients.router --page      # no trials, and of Triton's own APIs only what the page needs

    GET    /trials           all trials with their evidence
    PUT    /trials/MODEL     begin one: {"candidate": "mnist_mlp.v2", "mode": "shadow", "share": 0.1, ...}
    DELETE /trials/MODEL     end it; answers once no request of it is under way
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from clients.chat import read_template
from clients.command import address, command, command_parser, positive_float, print_json, say
from clients.connection import Connection, at_port, host_and_port
from clients.errors import InvalidInput, ToolError
from clients.openai.application import add_openai
from clients.router.grpc_proxy import grpc_router
from clients.router.http_proxy import HttpRouter
from clients.router.trial import Terms, Trial
from clients.router.trials import Trials
from clients.web.application import add_page, add_triton

_LARGEST_BODY = 256 * 2**20
_LONGEST_INFERENCE_S = 600


def _control(trials: Trials) -> web.Application:
    """The second address: trials."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response({model: trial.document() for model, trial in trials.running.items()})

    async def begin(request: web.Request) -> web.Response:
        model = request.match_info["model"]
        try:
            trials.running[model] = Trial(Terms(**{**await request.json(), "model": model}))
        except (InvalidInput, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(trials.running[model].document())

    async def end(request: web.Request) -> web.Response:
        trial = trials.running.pop(request.match_info["model"], None)
        if trial is None:
            return web.json_response({"error": "no such trial"}, status=404)
        while trial.under_way:
            await asyncio.sleep(0.01)
        return web.json_response(trial.document())

    application = web.Application()
    routes = [web.get("/trials", show), web.put("/trials/{model}", begin), web.delete("/trials/{model}", end)]
    application.add_routes(routes)
    return application


@asynccontextmanager
async def _serve(application: web.Application, address: str) -> AsyncIterator[str]:
    """Serve at HOST:PORT (port 0: any free one) within the block; yields where it listens."""
    options: dict[str, Any] = {"auto_decompress": False, "shutdown_timeout": 10, "access_log": None}
    # A caller that goes away is not worked for any further.
    runner = web.AppRunner(application, handler_cancellation=True, **options)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, *host_and_port(address)).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            remedy = "choose others with --listen and --control (beside a server: with --web-port)"
            raise ToolError(f"cannot listen at {address} ({reason}); {remedy}") from error
        yield at_port(address, runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _route(arguments: argparse.Namespace, chat_template: str) -> None:
    """Serve the addresses and print them; return after a signal, once requests under way are answered."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    traffic = web.Application(client_max_size=_LARGEST_BODY)
    add_openai(traffic, Connection("grpc", arguments.grpc, _LONGEST_INFERENCE_S), chat_template)
    # The router's callers are programs, who may know it by any name.
    names = [host_and_port(arguments.listen)[0], *arguments.name] if arguments.page else None
    add_page(traffic, arguments.metrics, arguments.examples, names)
    async with AsyncExitStack() as stack:
        serve, addresses = {"listen": traffic}, {}
        trials = Trials(arguments.patience)
        router = await stack.enter_async_context(HttpRouter(arguments.upstream, trials, _LONGEST_INFERENCE_S))
        if arguments.page:
            add_triton(traffic, router.handle)
        else:
            traffic.router.add_route("*", "/{path:.*}", router.handle)
            serve["control"] = _control(trials)
            calls = grpc_router(arguments.grpc, trials, _LONGEST_INFERENCE_S, arguments.listen_grpc)
            addresses["listen_grpc"] = await stack.enter_async_context(calls)
        for name, application in serve.items():
            served = _serve(application, getattr(arguments, name))
            addresses[name] = await stack.enter_async_context(served)
        print_json(addresses)
        await stop.wait()


@command()
def main() -> int:
    """Route until a signal; the first line of stdout says where, as JSON."""
    parser = command_parser("clients.router", __doc__)
    add_address = partial(parser.add_argument, type=address, metavar="HOST:PORT")
    add_address("--upstream", default="127.0.0.1:8000", help="Triton's HTTP (default: %(default)s)")
    add_address("--grpc", default="127.0.0.1:8001", help="Triton's gRPC (default: %(default)s)")
    add_address("--listen", default="127.0.0.1:8080", help="for callers over HTTP (default: %(default)s)")
    add_address("--listen-grpc", default="127.0.0.1:8082", help="for callers over gRPC (default: %(default)s)")
    add_address("--control", default="127.0.0.1:8081", help="for trials (default: %(default)s)")
    text = "seconds that callers wait for a candidate (default: %(default)g)"
    parser.add_argument("--patience", type=positive_float, default=1.0, metavar="S", help=text)
    text = "serve the page, OpenAI's API and what the page needs of Triton's; no trials"
    parser.add_argument("--page", action="store_true", help=text)
    text = "with --page: a name by which callers may ask, besides addresses and localhost; may be repeated"
    parser.add_argument("--name", action="append", type=str.lower, default=[], metavar="HOST", help=text)
    text = "Triton's metrics, of each server, for the page (default: %(default)s)"
    add_address("--metrics", nargs="*", default=["127.0.0.1:8002"], help=text)
    text = "a model repository whose golden requests are the page's examples"
    parser.add_argument("--examples", type=Path, metavar="DIR", help=text)
    text = "Jinja for all chats, in place of the templates in the models' configs"
    parser.add_argument("--chat-template", type=Path, metavar="FILE", help=text)
    arguments = parser.parse_args()
    asyncio.run(_route(arguments, read_template(arguments.chat_template)))
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
