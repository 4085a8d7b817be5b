"""`tools.front run` with a file of replicas that changes: what HAProxy or we refuse is told once, and harms nobody."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.serving import add_sleeper
from tests.e2e.test_front import ANYWHERE
from tests.haproxy import NEEDS_HAPROXY
from tests.waiting import soon
from tools.front.door import Front
from tools.front.keys import add_key
from tools.front.options import FrontOptions
from tools.ports import PortError, address_of, listening
from tools.repository import ROOT

pytestmark = NEEDS_HAPROXY
GOOD, REFUSED = "a=127.0.0.1:1,127.0.0.1:2\n", "a=127.0.0.1:0,127.0.0.1:2\n"


@contextmanager
def run(folder: Path) -> Iterator[Path]:
    """Run a door before the replicas that FOLDER/replicas names; yields the file of what it says."""
    line = [sys.executable, "-m", "tools.front", "run", folder / "front", "--front", ANYWHERE, "--operator", ANYWHERE]
    line += ["--repository", add_sleeper(folder / "models"), "--backends", folder / "replicas"]
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(list(map(str, line)), cwd=ROOT, stdout=said, stderr=said)
    try:
        yield folder / "said"
    finally:
        process.terminate()
        process.wait(60)


def test_a_taken_address_is_named_before_haproxy_starts(tmp_path: Path) -> None:
    with listening() as held, pytest.raises(PortError, match=rf"cannot listen on {address_of(held)} \(Address already"):
        Front(tmp_path, FrontOptions(front=address_of(held), operator=ANYWHERE), [], [])


def is_said(words: str, said: Path) -> bool:
    return words in said.read_text()


def test_a_file_that_is_refused_is_told_once_and_one_that_is_mended_is_followed(tmp_path: Path) -> None:
    (tmp_path / "replicas").write_text(GOOD)
    with run(tmp_path) as said:
        for text, words in (
            (GOOD, "Front door at"),
            (REFUSED, "HAProxy does not start"),
            (GOOD + GOOD, "two replicas are called 'a'"),
            (GOOD.replace("a", "b"), "stands before b now"),
        ):
            (tmp_path / "replicas").write_text(text)
            assert soon(partial(is_said, words, said)), said.read_text()
            # It looks at the file twice a second.
            time.sleep(1.2 if text == REFUSED else 0)
        assert said.read_text().count("does not start") == 1, said.read_text()
        assert "HAProxy does not start:\n[" in said.read_text()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_who_sends_a_body_over_http_2_can_read_why_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "front").mkdir()
    add_key(tmp_path / "keys.map", "alice", "caller", 0)
    options = FrontOptions(front=ANYWHERE, operator=ANYWHERE, api_keys=tmp_path / "keys.map")
    curl = ["curl", "--silent", "--noproxy", "*", "--http2-prior-knowledge", "--max-time", "9", "--request", "POST"]
    with Front(tmp_path / "front", options, [], []) as front:
        for address, words in ((front.address, b"send an API key as"), (front.operator, b"only for operators")):
            line = [*curl, "--upload-file", "-", f"http://{address}/v2/models/m/infer"]
            with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
                # The headers are there before the body.
                time.sleep(0.3)
                answer, _ = caller.communicate(b"{}")
            assert caller.returncode == 0 and words in answer
