"""Three hosts, made of network namespaces, each with an address: one is cut off while others call, and returns."""

import json
import subprocess
import sys

import pytest

from tests.hosts.network import lacking
from tools.repository import ROOT


def test_a_host_that_is_cut_off_fails_no_request_and_the_others_get_even_shares_within_seconds() -> None:
    if reason := lacking():
        pytest.skip(reason)
    words = ["tests.hosts", "cut off", "--seconds", "2", "5", "4"]
    result = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout, result.stderr
    rows = json.loads(result.stdout.splitlines()[-1])["hosts"]
    assert [(row["callers"], row["failed"]) for row in rows] == [("http", 0), ("grpc", 0)], rows
    assert result.returncode == 0 and min(row["sent"] for row in rows) > 500, rows
    # The last answers before may be counted a moment later.
    assert all(int(row["meanwhile"].split(" / ")[-1]) <= 10 for row in rows), rows
