"""Three hosts, made of network namespaces, each with an address: one is cut off while others call, and returns."""

import json
import os
import subprocess
import sys

import pytest

from clients.errors import ToolError
from clients.lifetime import leashed
from tests.hosts.balance import Course
from tests.hosts.episodes import _first_answer
from tests.hosts.network import lacking
from tools.repository import ROOT


def test_a_host_that_is_cut_off_fails_no_request_and_the_others_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a Debian user has it, who is not root.
    path = [folder for folder in os.environ["PATH"].split(":") if not folder.endswith("sbin")]
    monkeypatch.setenv("PATH", ":".join(path))
    if reason := lacking():
        pytest.skip(reason)
    line = leashed([sys.executable, "-m", "tests.hosts", "cut off", "--seconds", "2", "5", "4"])
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert result.stdout, result.stderr
    rows = json.loads(result.stdout.splitlines()[-1])["hosts"]
    # How soon shares are even depends on the processors: that is for the command to judge.
    assert [(row["callers"], row["failed"]) for row in rows] == [("http", 0), ("grpc", 0)], rows
    # The last answers before may be counted a moment later.
    assert all(row["sent"] and int(row["meanwhile"].split(" / ")[-1]) <= 10 for row in rows), rows


def test_a_door_that_nobody_passes_is_not_waited_for_without_end() -> None:
    with pytest.raises(ToolError, match=r"no replica has answered a request within 0\.1 s"):
        _first_answer(Course({"replica0": [(0.0, 0, 0)]}), 0.1)
