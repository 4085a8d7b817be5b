"""What a module answers to each of several lists of arguments with `--help` behind them, as JSON: codes and texts."""

import contextlib
import io
import json
import runpy
import sys

module, lines = sys.argv[1], json.loads(sys.argv[2])
answers = []
for line in lines:
    sys.argv[1:] = [*line, "--help"]
    shown, code = io.StringIO(), 0
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            code = end.code
    answers.append([code, shown.getvalue()])
print(json.dumps(answers))
