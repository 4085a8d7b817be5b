"""Load tests of a server, run one after the other."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from clients.errors import ToolError
from tools.repository import ROOT


def run(model: str, url: str, protocol: str, seconds: float, scratch: Path, *load: str) -> dict[str, Any]:
    """One load test; its JSON."""
    words = [
        sys.executable,
        "-m",
        "loadtest.run",
        model,
        "--url",
        url,
        "--protocol",
        protocol,
        "--report",
        str(scratch),
    ]
    result = subprocess.run([*words, "--duration", f"{seconds:g}", *load], cwd=ROOT, capture_output=True, text=True)
    if not result.stdout:
        raise ToolError(f"the load test failed: {result.stderr.strip()[-600:]}")
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document
