"""tools.check --url: the counters of a running server."""

from pathlib import Path

from tests.conftest import Command, served
from tests.e2e.serving import CONFIG, MODEL, sleep_on
from tools.check.traffic import ENOUGH
from tools.serve.tritonserver import Options


def test_a_cache_without_hits_is_found_by_its_counters(tmp_path: Path, command: Command) -> None:
    version = tmp_path / "sleeper" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    config = CONFIG.format(name="sleeper").replace("KIND_GPU", "KIND_CPU")
    (version.parent / "config.pbtxt").write_text(config + "response_cache { enable: true }")
    with served(Options(tmp_path, flags=("--cache-config=local,size=1048576",))) as server:
        for number in range(ENOUGH):
            sleep_on(server.grpc, number / 1e6)
        answer = command("tools.check", tmp_path, "--url", server.http, "--strict")
        assert answer.returncode == 1
        assert f"none of {ENOUGH} requests was answered from the cache [cache-no-hits]" in answer.stdout
        sleep_on(server.grpc, 0)
        assert "cache-no-hits" not in command("tools.check", tmp_path, "--url", server.http).stdout
    answer = command("tools.check", tmp_path, "--url", server.http)
    assert answer.returncode == 2 and answer.stderr.startswith("error: ") and "Traceback" not in answer.stderr
