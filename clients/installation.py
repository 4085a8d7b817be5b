"""Whether these modules are a clone of the repository or the installed wheel, and what that changes.

In a clone, `python -m tools.check` works on the clone, and what is made lies in it. The wheel holds the same rooms in
one package, `triton_repo`, so that others may have a `tools` of their own; there it is `triton-repo check`, which works
on the folder where it is run. The build of the wheel rewrites imports, and commands in texts (hatch_build.py). Whatever
else depends on the name of a module or the place of a file asks here.
"""

import os
import sys
from pathlib import Path

# What stands before the names of our modules: nothing in a clone, "triton_repo." where the wheel is installed.
PACKAGE = __name__.removesuffix("clients.installation")
# The rooms lie here, and with them what they need besides Python.
CODE = Path(__file__).resolve().parent.parent


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # It was removed; a command says so when it uses it.
        return Path()


# model_repository/ and build/ lie here.
ROOT = _working_folder() if PACKAGE else CODE
# What is made once for a machine.
CACHE = ROOT / "build"
if PACKAGE:
    CACHE = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "triton-repo")


def module_line(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of ours, such as "clients.router", in a process of its own."""
    return [sys.executable, "-m", PACKAGE + module, *arguments]


def command_name(module: str) -> str:
    """What a module is called as a command of `triton-repo`: "check" for "tools.check", "loadtest-peak"."""
    room, _, name = module.partition(".")
    return {"run": room}.get(name, f"{room}-{name}") if room == "loadtest" else name


def as_typed(module: str) -> str:
    """What people type to run a module."""
    return f"triton-repo {command_name(module)}".strip() if PACKAGE else f"python -m {module}"


def how_to_install(extra: str) -> str:
    """What people type to install what an extra of the wheel brings; a clone is set up with all that it needs."""
    return f"`pip install 'triton-repo[{extra}]'`" if PACKAGE else "`make setup`"
