"""What modules answer to lists of arguments with `--help` behind them: codes and texts, as JSON.

python -m tests.unit.helps '{"tools.check": [["--rules"], []]}'
"""

import contextlib
import io
import json
import runpy
import sys


def answer(module: str, line: list[str]) -> tuple[object, str]:
    """The exit code, and all that was said."""
    sys.argv[1:] = [*line, "--help"]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            return end.code, shown.getvalue()
    return 0, shown.getvalue()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps({module: [answer(module, line) for line in lines] for module, lines in asked.items()}))
