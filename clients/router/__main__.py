"""A router in front of Triton that tries a candidate on a share of the traffic: `python -m clients.router`.

Passes everything through, over HTTP. While a trial is on, a share of the inference requests for its model goes to the
model and to the candidate at once. A caller of a "canary" gets the candidate's answer, or the model's where the
candidate fails or is late; a caller of a "shadow" always gets the model's. What the trial shows, and its decision, is
asked for at a second address, which callers need not reach; `tools.rollout` begins trials and acts on the decision.

    python -m clients.router --upstream 127.0.0.1:8000 --listen 127.0.0.1:8080 --control 127.0.0.1:8081

    GET    /trials           all trials with their evidence
    PUT    /trials/MODEL     begin one: {"candidate": "mnist_mlp.v2", "mode": "shadow", "share": 0.1, ...}
    DELETE /trials/MODEL     end it; answers once no request of it is under way
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable

from aiohttp import web

from clients.connection import ADDRESS
from clients.errors import InvalidInput
from clients.router.proxy import Router
from clients.router.trial import Terms, Trial

LARGEST_BODY = 256 * 2**20


def control(router: Router) -> web.Application:
    """The second address: trials."""

    async def listed(_: web.Request) -> web.Response:
        return web.json_response({model: trial.document() for model, trial in router.trials.items()})

    async def begin(request: web.Request) -> web.Response:
        model = request.match_info["model"]
        try:
            router.trials[model] = Trial(Terms(**{**await request.json(), "model": model}))
        except (InvalidInput, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(router.trials[model].document())

    async def end(request: web.Request) -> web.Response:
        trial = router.trials.pop(request.match_info["model"], None)
        if trial is None:
            return web.json_response({"error": "no such trial"}, status=404)
        while trial.under_way:
            await asyncio.sleep(0.01)
        return web.json_response(trial.document())

    application = web.Application()
    application.add_routes([web.get("/trials", listed), web.put("/trials/{model}", begin)])
    application.add_routes([web.delete("/trials/{model}", end)])
    return application


def traffic(router: Router, largest: int = LARGEST_BODY) -> web.Application:
    """The callers' address."""
    application = web.Application(client_max_size=largest)
    application.router.add_route("*", "/{path:.*}", router.handle)
    return application


async def serve(application: web.Application, address: str) -> tuple[web.AppRunner, str]:
    """Serve at an address, HOST:PORT (port 0: any free one); the runner, and where it listens."""
    runner = web.AppRunner(application, access_log=None, auto_decompress=False, shutdown_timeout=10)
    await runner.setup()
    host, _, port = address.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    return runner, "{}:{}".format(*runner.addresses[0][:2])


async def run(arguments: argparse.Namespace, ready: Callable[[dict[str, str]], object]) -> None:
    """Serve both addresses until told to stop."""
    async with Router(arguments.upstream, arguments.patience) as router:
        runners: list[web.AppRunner] = []
        try:
            places = {}
            for name, application in (("listen", traffic(router)), ("control", control(router))):
                runner, places[name] = await serve(application, getattr(arguments, name))
                runners.append(runner)
            ready(places)
            await told_to_stop()
        finally:
            for runner in runners:
                await runner.cleanup()


async def told_to_stop() -> None:
    """Wait for Ctrl-C or a service manager; requests that are under way are answered afterwards."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def address(text: str) -> str:
    """HOST:PORT from the command line."""
    if not ADDRESS["grpc"].fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got '{text}'")
    return text


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m clients.router", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--upstream", type=address, default="127.0.0.1:8000", help="Triton's HTTP (default: %(default)s)"
    )
    parser.add_argument("--listen", type=address, default="127.0.0.1:8080", help="for callers (default: %(default)s)")
    parser.add_argument("--control", type=address, default="127.0.0.1:8081", help="for trials (default: %(default)s)")
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds that callers wait for a candidate (default: 1)",
    )
    return parser


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        asyncio.run(run(arguments, lambda places: print(json.dumps(places), flush=True)))
    except OSError as error:
        print(f"error: cannot listen ({error}); choose other ports with --listen and --control", file=sys.stderr)
        return 1
    print("Stopped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
