"""Each action of `tools.versions` offers the options that it obeys, and no others."""

import pytest

from tests.conftest import Command
from tools.versions.__main__ import _parser


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("list", ["--keep", "3"]),
        ("list", ["--public-key", "public.pem"]),
        ("list", ["3"]),
        ("promote", ["--mode=shadow"]),
        ("promote", ["--url", "127.0.0.1:8000", "--hardware", "cpu"]),
        ("rollback", ["--allow-worse"]),
        ("rollback", ["--limit", "100"]),
        ("prune", ["--url", "127.0.0.1:8000"]),
        ("rollout", ["--keep", "3"]),
        ("rollout", ["--timeout", "0"]),
    ],
)
def test_an_option_of_another_action_is_refused(
    action: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _parser().parse_args(["mnist_mlp", action])
    with pytest.raises(SystemExit, match="2"):
        _parser().parse_args(["mnist_mlp", action, *options])
    assert options[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollout", "--router", "127.0.0.1:8081", "--callers", "4"], "--callers and --listen are of its own router"),
        (["promote", "--grpc-url", "127.0.0.1:8001"], "give its --url too"),
        (["rollout", "--share", "2"], "expected a share of more than 0 and at most 1, got 2"),
    ],
)
def test_what_cannot_be_run_is_exit_code_2(arguments: list[str], message: str, command: Command) -> None:
    done = command("tools.versions", "mnist_mlp", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and "Traceback" not in done.stderr
