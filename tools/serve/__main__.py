"""Serve the model repository with the real tritonserver, without Docker: `python -m tools.serve`.

Starts the tritonserver of the `nvidia-pytriton` wheel on the repository, with a pytorch backend of ours in place of
NVIDIA's, and keeps it alive until Ctrl-C or SIGTERM: it is started again when it dies, and every model is asked for an
answer that is known, and healed if that does not come.

    python -m tools.serve                                  # ports 8000 (HTTP), 8001 (gRPC), 8002 (metrics)
    python -m tools.serve --replicas 2                     # two servers, the second at 8010, 8011, 8012
    python -m tools.serve --http-port 0 --grpc-port 0      # free ports, printed
    python -m tools.serve --run 'python -m clients.status' # serve while a command runs, then stop
    python -m tools.serve --model-control-mode=explicit    # any further tritonserver flag is passed through
"""

import argparse
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

from clients.command import address, command, command_parser, positive, positive_float, say
from tools.front.options import add_front_arguments, front_options_from
from tools.ports import PortError, listening
from tools.repository import REPOSITORY
from tools.serve.doorway import doors
from tools.serve.hardware import HARDWARE
from tools.serve.journal import Journal
from tools.serve.launch import LOCALHOST, every_model, otlp_flags
from tools.serve.native import BACKENDS, choose_backend
from tools.serve.replica import Replica
from tools.serve.router_process import RouterProcess, web_application
from tools.serve.server_error import ServerError
from tools.serve.supervisor import Supervisor
from tools.serve.tritonserver import Options, Server
from tools.serve.watchdog import Care

_CHILD_SECONDS = 10  # for the command of --run to end in when it is stopped


def _parser() -> argparse.ArgumentParser:
    # An option that is not spelled out is tritonserver's, even if it begins like one of ours.
    epilog = "Further flags go to tritonserver as they are, for example --model-control-mode=explicit."
    parser = command_parser("tools.serve", __doc__, epilog, allow_abbrev=False)
    add = parser.add_argument
    add("--repository", type=Path, default=REPOSITORY, help="model repository")
    add("--host", default="127.0.0.1", help="address or name to bind")
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        add(f"--{name}-port", type=int, default=port, help="0 for any free port")
    text = "serve a page to try the models, and OpenAI's API for language models, at this port; 0 for any free one"
    add("--web-port", "--openai-port", type=int, metavar="PORT", help=text)
    text = "a name by which callers ask at --web-port, besides addresses and localhost; may be repeated"
    add("--web-name", action="append", default=[], metavar="HOST", help=text)
    text = "cpu serves configs/cpu.pbtxt; auto is gpu where one is visible to torch"
    add("--hardware", choices=HARDWARE, default="auto", help=text)
    text = "start only if everything served was signed with the matching private key (tools.sign)"
    add("--public-key", type=Path, metavar="PUBLIC.pem", help=text)
    add("--ready-timeout", type=float, default=Options.ready_timeout, metavar="S", help="seconds until it is ready")
    text = "what serves TorchScript: auto is native where it can be compiled"
    add("--backend", choices=BACKENDS, default="auto", help=text)
    text = "send the stages of traced requests to an OpenTelemetry receiver, for example http://127.0.0.1:4318"
    add("--otlp", type=_endpoint, metavar="URL", help=text)
    add("--compile", action="store_true", help="only compile the native backend, if need be")
    add("--verbose", action="store_true", help="show the whole log of tritonserver")
    _add_supervision(parser)
    add_front_arguments(parser)
    text = (
        "run a line of shell with TRITON_HTTP_URL, TRITON_GRPC_URL and TRITON_METRICS_URL set, and with --web-port "
        "OPENAI_BASE_URL; then stop"
    )
    add("--run", metavar="COMMAND", type=_shell, help=text)
    return parser


def _endpoint(url: str) -> str:
    # Compose passes an empty text where its variable is not set.
    if url and not re.fullmatch(r"https?://[^/\s]+/?", url):
        raise argparse.ArgumentTypeError(f"expected http://HOST:PORT, the base of an OTLP receiver, got '{url}'")
    return url


def _add_supervision(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("supervision (not with --run)").add_argument
    add("--replicas", type=positive, default=1, metavar="N", help="servers with all models")
    text = "seconds between golden requests to each model; 0 for none"
    add("--watch", type=_seconds, default=Care.interval_s, metavar="S", help=text)
    text = "how long a model may take; set it above your longest request"
    add("--watch-timeout", type=positive_float, default=Care.patience_s, metavar="S", help=text)
    text = "give up after so many in a row, none after a minute of service"
    add("--max-deaths", type=positive, default=Care.max_deaths, metavar="N", help=text)
    text = "where /status and /metrics of the supervisor are (default: the port after --metrics-port, or a free one)"
    add("--status", type=address, metavar="HOST:PORT", help=text)
    add("--log-format", choices=("text", "json"), default="text", help="of events")


def _seconds(text: str) -> float:
    return 0.0 if text == "0" else positive_float(text)


def _shell(command: str) -> str:
    try:
        is_empty = not shlex.split(command)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} in {command}") from error
    if is_empty:
        raise argparse.ArgumentTypeError("the command is empty")
    return command


def _options(arguments: argparse.Namespace, flags: Sequence[str]) -> Options:
    return Options(
        repository=arguments.repository.resolve(),
        host=arguments.host,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        hardware=arguments.hardware,
        ready_timeout=arguments.ready_timeout,
        verbose=arguments.verbose,
        flags=[*(otlp_flags(arguments.otlp) if arguments.otlp else ()), *flags],
        public_key=arguments.public_key,
        backend=arguments.backend,
        on_log=say,
    )


def _supervise(arguments: argparse.Namespace, options: Options) -> None:
    """Serve until a signal, whatever happens to the servers."""
    care = Care(arguments.max_deaths, arguments.watch, arguments.watch_timeout)
    journal = Journal(arguments.log_format == "json")
    front = front_options_from(arguments)
    # Nothing is compiled for a repository that cannot be served.
    every_model(options.repository)
    # Compiled here, where Ctrl-C ends the compiler.
    backend = choose_backend(options.backend, options.on_log)
    supervisor = Supervisor(options, arguments.replicas, care, journal, _status(arguments))

    web = (arguments.host, arguments.web_port, arguments.web_name)
    with doors(front, supervisor, *web, partial(journal.log, "")) as (place, page):

        def tell() -> None:
            print(place, end="")
            for replica in supervisor.replicas:
                title = f"{replica.name}: " if arguments.replicas > 1 else ""
                beside = f", {page.openai_url} (OpenAI's API)" if page and replica is supervisor.replicas[0] else ""
                print(f"{title}Serving at {_places(replica)}{beside}; {backend.name} pytorch backend; Ctrl-C stops")
            if page:
                print(f"Try the models in a browser: {page.page_url}")
            print(f"State of the service: http://{supervisor.status_url}/status and /metrics", flush=True)

        supervisor.run(tell, page.check if page else None)
    journal.tell("stopped", "stopped")


def _status(arguments: argparse.Namespace) -> socket.socket:
    if arguments.status:
        return listening(arguments.status)
    with suppress(PortError):
        return listening(f"{LOCALHOST}:{arguments.metrics_port + 1 if arguments.metrics_port else 0}")
    return listening()


def _places(replica: Replica) -> str:
    forms = {"http": "http://{} (HTTP)", "grpc": "{} (gRPC)", "metrics": "http://{}/metrics"}
    return ", ".join(forms[name].format(place) for name, place in replica.endpoints.addresses.items())


def _page_of(server: Server, arguments: argparse.Namespace) -> AbstractContextManager[RouterProcess | None]:
    asked = (server.http, server.grpc, [server.metrics], server.options.repository, arguments.web_name)
    return web_application(arguments.host, arguments.web_port, *asked)


def _run(server: Server, page: RouterProcess | None, command: str) -> int:
    """Run a line of shell while the server runs; return its exit code."""
    urls = {f"TRITON_{name.upper()}_URL": url for name, url in server.endpoints.addresses.items()}
    urls |= {"OPENAI_BASE_URL": page.openai_url} if page else {}
    child = subprocess.Popen(["sh", "-c", command], env={**os.environ, **server.mark, **urls})
    try:
        while child.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.2)
            server.check()
    finally:
        _stop(child)
    code = child.returncode
    return code if code >= 0 else 128 - code


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """Stop a shell and what it runs, which would otherwise go on without it."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        shell = psutil.Process(child.pid)
        family = [shell, *shell.children(recursive=True)]
        try:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
            psutil.wait_procs(family, _CHILD_SECONDS)
        finally:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
    child.wait()


@command()
def main() -> int:
    """Serve until interrupted, or while the command of --run runs."""
    arguments, flags = _parser().parse_known_args()
    if arguments.compile:
        backend = choose_backend(arguments.backend, say)
        print(f"{backend.name} pytorch backend: {backend.library or backend.reason}")
        return 0
    options = _options(arguments, flags)
    try:
        if arguments.run:
            if arguments.front:
                raise ServerError("--front is for callers from elsewhere, and does not go with --run")
            with Server(options) as server, _page_of(server, arguments) as page:
                return _run(server, page, arguments.run)
        _supervise(arguments, options)
    except KeyboardInterrupt:  # The normal end of a server.
        say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
