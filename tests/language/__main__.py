"""Send a language model many requests of mixed lengths, with random cancels and errors, and look at what is left.

    python -m tests.language                     # 1,000 requests, 16 at once; some minutes
    python -m tests.language --requests 100

Every answer must be what the same prompt gets alone; afterwards no request runs, the KV cache is empty, and memory has
not grown with the number of requests, even at the lower end of the slope's interval. The last line of stdout is one
JSON document; exit code 1 means that something of this is not so.
"""

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.command import command, command_parser, positive, print_json, say
from tests.language.asking import add_copy, built_models, metrics
from tests.language.mixed import MODEL, run
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

_FILLING = 16  # long requests, as many as the KV cache has room for
GROWTH_MB = 20.0  # per 1,000 requests, which allocators and caches may take


def _keep_little(config: ModelConfig) -> None:
    # Memory grows until the KV cache has been full once.
    config.parameters["KV_CACHE_TOKENS"].string_value = str(_FILLING * 512)


@command()
def main() -> int:
    """Send them, and judge."""
    parser = command_parser("tests.language", __doc__)
    parser.add_argument("--requests", type=positive, default=1000, help="(default: %(default)s)")
    parser.add_argument("--at-once", type=positive, default=16, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is sent (default: %(default)s)")
    arguments = parser.parse_args()
    if not built_models():
        raise ServerError("no language model has a version; `make demo-lm` makes one")
    with tempfile.TemporaryDirectory() as folder:
        add_copy(built_models()[0], Path(folder), MODEL, _keep_little, dtype="float32")
        with Server(Options(Path(folder), ready_timeout=300)) as server:
            result = asyncio.run(
                run(server, arguments.requests, arguments.at_once, random.Random(arguments.seed), fill=_FILLING)
            )
            time.sleep(2.5)
            server.check()
            left = metrics(server.metrics, MODEL)
    for words, count in result.different.items():
        say(f"{count} times: {words}")
    growth = result.growth()
    figures = {"endings": dict(result.endings), "ties": result.ties, "growth_mb_per_1000": growth}
    figures |= {name: left[name] for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")}
    print_json(figures)
    is_left = left["num_requests_running"] or left["num_requests_waiting"] or left["kv_cache_usage_perc"]
    is_wrong = result.endings["other"] or result.endings["different"] or is_left
    return int(bool(is_wrong or growth["low"] > GROWTH_MB))


if __name__ == "__main__":
    sys.exit(main())
