"""The wheel as others install it: in a folder of theirs, beside packages that are called as our rooms are."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.differential.examples import GOOD, write_model
from tests.e2e.serving import FREE_PORTS, add_sleeper
from tests.wheel.environment import IMPORT_ALL, Environment, build, install, link_all, link_extra
from tools.repository import ROOT

ROOMS = ("clients", "loadtest", "tools")
FAULTY = GOOD.replace("max_batch_size: 8", "max_batch_size: -1")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def checking(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with triton-repo[check]."""
    made = install(wheel, tmp_path_factory.mktemp("environment") / "check")
    link_extra(made, "check")
    return made


@pytest.fixture(scope="module")
def whole(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with triton-repo and all that this one has."""
    made = install(wheel, tmp_path_factory.mktemp("environment") / "whole")
    link_all(made)
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Somebody's project with packages of the same names, which nobody but they may import."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise ImportError('not ours')")
    return tmp_path


def test_the_wheel_holds_one_package_with_the_files_that_its_code_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        code = {name: archive.read(name).decode() for name in names if name.endswith(".py")}
    assert {name.split("/")[0] for name in names} == {"triton_repo", f"triton_repo-{_version()}.dist-info"}
    data = (
        "py.typed",
        "deploy/haproxy/haproxy.cfg.j2",
        "tools/backends/native/backend.cc",
        "loadtest/report/page.html",
        "loadtest/report/palette.css",
        "clients/web/page/index.html",
        "clients/web/page/style.css",
        "clients/web/page/app.js",
        "clients/web/page/icon.svg",
    )
    assert {f"triton_repo/{name}" for name in data} <= names
    assert not {name for name, text in code.items() if re.search(r"python -m (?:clients|loadtest|tools)\.\w", text)}
    for name, text in code.items():
        ast.parse(text, name, feature_version=(3, 10))


def _version() -> str:
    line = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    return line.split('"')[1]


def test_the_ranges_of_the_wheel_take_what_is_pinned_here(checking: Environment) -> None:
    wanted = [Requirement(line) for line in checking.installed.requires or ()]
    others = [each for each in wanted if each.name != "triton-repo"]
    assert len(others) > 15
    assert [str(each) for each in others if not each.specifier.contains(version(each.name))] == []


def test_a_repository_is_checked_where_nothing_else_is_installed(checking: Environment, elsewhere: Path) -> None:
    repository = write_model(elsewhere / "model_repository", FAULTY)
    (elsewhere / "other").mkdir()
    write_model(elsewhere / "other" / "models")
    fault = "model_repository/model/config.pbtxt:3:1: error: max_batch_size: -1 [max-batch-size]"
    for paths in ((), (repository,), ("model_repository/model/1/model.pt", "other/models/model/config.pbtxt")):
        answer = checking.run("triton-repo", "check", *paths, cwd=elsewhere)
        assert (answer.returncode, answer.stdout.splitlines()[:1], answer.stderr) == (1, [fault], "")
    assert checking.run("triton-repo", "check", "other/models", cwd=elsewhere).returncode == 0
    nowhere = checking.run("triton-repo", "check", cwd=elsewhere / "other")
    assert nowhere.returncode == 2 and "does not exist; give the path of a model repository" in nowhere.stderr


def test_what_is_missing_is_named_with_the_extra_that_brings_it(checking: Environment, elsewhere: Path) -> None:
    answers = {name: checking.run("triton-repo", name, cwd=elsewhere) for name in ("batch", "loadtest-diff", "serve")}
    assert answers["batch"].stderr == (
        "error: batch needs PIL, which is not installed; run `pip install 'triton-repo[client]'`\n"
    )
    assert "usage: triton-repo loadtest-diff" in answers["loadtest-diff"].stderr
    assert "`pip install 'triton-repo[serve]'`" in answers["serve"].stderr
    assert {answer.returncode for answer in answers.values()} == {2}


def test_help_lists_the_commands_in_a_line_each_and_loads_nothing_heavy(checking: Environment, elsewhere: Path) -> None:
    answer = checking.run("triton-repo", "--help", cwd=elsewhere)
    listed = re.findall(r"^    ([a-z-]+)  +\w.*$", answer.stdout, re.MULTILINE)
    assert {"check", "serve", "loadtest", "loadtest-peak"} <= set(listed) and len(listed) > 15
    assert checking.run("triton-repo", "--version", cwd=elsewhere).stdout == f"triton-repo {_version()}\n"
    program = (
        "import sys; from triton_repo.tools.__main__ import main; sys.argv[1:] = ['check', '--help']\n"
        "try: main()\n"
        "finally: print(sorted({'numpy', 'google', 'tritonclient', 'asyncio'} & sys.modules.keys()))"
    )
    text = checking.run("python", "-c", program, cwd=elsewhere).stdout
    assert text.startswith("usage: triton-repo check") and text.endswith("[]\n")
    assert "    triton-repo check --fix --deep  " in text


def test_a_shell_completes_commands_and_options(checking: Environment, elsewhere: Path) -> None:
    def completed(line: str) -> str:
        script = f'eval "$(triton-repo --completion bash)"; COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; '
        script += 'COMP_TYPE=9; _python_argcomplete triton-repo; printf "%s\\n" "${COMPREPLY[@]}"'
        return checking.run("bash", "-c", script, cwd=elsewhere).stdout

    assert "check" in completed("triton-repo ch").split()
    assert "--public-key" in completed("triton-repo check --pub").split()


def test_every_module_imports_from_within_the_package(whole: Environment, elsewhere: Path) -> None:
    answer = whole.run("python", "-c", IMPORT_ALL, cwd=elsewhere)
    assert json.loads(answer.stdout.splitlines()[-1]) == [{}, []], answer.stderr


def test_what_can_be_served_is_served_from_a_folder_of_somebody_else(whole: Environment, elsewhere: Path) -> None:
    repository = add_sleeper(elsewhere / "model_repository")
    add_sleeper(repository, "foreign")
    ensemble = 'ensemble_scheduling { step { model_name: "foreign" model_version: -1 } }'
    for name, text in {"foreign": 'platform: "onnxruntime_onnx"', "around": f'platform: "ensemble" {ensemble}'}.items():
        (repository / name / "1").mkdir(parents=True, exist_ok=True)
        (repository / name / "config.pbtxt").write_text(text)
    line = ("serve", "--backend", "python", *FREE_PORTS, "--run", "triton-repo status --json")
    answer = whole.run("triton-repo", *line, cwd=elsewhere)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1])
    assert "not served: around, foreign: no backend onnxruntime in this server\n" in answer.stderr
    assert (sorted(path.name for path in elsewhere.iterdir())) == sorted([*ROOMS, "model_repository"])
    assert sys.prefix not in answer.stdout


def test_a_folder_without_recipes_is_told_what_writes_one(whole: Environment, elsewhere: Path) -> None:
    for line, words in (
        (("export", "mine"), "no recipe recipes/mine.py; there are: none; "),
        (("verify",), "no model in "),
    ):
        answer = whole.run("triton-repo", *line, cwd=elsewhere)
        assert answer.returncode == 2 and answer.stderr.startswith(f"error: {words}")
        assert "`triton-repo new` writes " in answer.stderr


def test_the_hook_checks_the_models_whose_files_changed(checking: Environment, elsewhere: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    write_model(elsewhere / "good")
    write_model(elsewhere / "bad", FAULTY)

    def answer(*changed: str) -> int:
        chosen = [name for name in changed if re.search(hook["files"], name)]
        return checking.run(*hook["entry"].split(), *chosen, cwd=elsewhere).returncode

    assert answer("good/model/config.pbtxt", "good/model/1/model.pt", "docs/page.md", "tools/__init__.py") == 0
    assert answer("good/model/config.pbtxt", "bad/model/1/model.pt") == 1


def run_action(environment: Environment, folder: Path, **inputs: str) -> "subprocess.CompletedProcess[str]":
    """Run the action's own steps as GitHub does, up to the first that fails; without a package index."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    values = {f"inputs.{name}": inputs.get(name, given["default"]) for name, given in action["inputs"].items()}
    values["github.action_path"] = str(ROOT)
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    offline |= {"TRITON_NATIVE_CACHE": str(ROOT / "build" / "native")}  # as compiled at set-up
    for step in action["runs"]["steps"]:
        name, operator, text = re.fullmatch(r"(\S+) (==|!=) '(.*)'", step.get("if", "inputs.tests != '-'")).groups()
        if "run" in step and (values[name] == text) == (operator == "=="):
            filled = {
                key: re.sub(r"\${{ (\S+) }}", lambda found: values[found[1]], text) for key, text in step["env"].items()
            }
            shell = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"])
            answer = environment.run(*shell, cwd=folder, **{**filled, **offline})
            if answer.returncode:
                break
    return answer


def test_the_steps_of_the_action_run(whole: Environment, elsewhere: Path) -> None:
    write_model(elsewhere / "models", FAULTY)
    failed = run_action(whole, elsewhere, repository="models", options="--unbuilt --triton 26.09", sarif="models.sarif")
    assert failed.returncode == 1 and "[max-batch-size]" in failed.stdout, failed.stderr
    good = add_sleeper(elsewhere / "good")
    test = "import numpy as np\n\ndef test_it(triton_model):\n    seconds = np.full(1, 0.01, np.float32)\n"
    (elsewhere / "test_models.py").write_text(test + "    triton_model('sleeper').assert_close(seconds, seconds)\n")
    passed = run_action(whole, elsewhere, repository=good.name, tests="test_models.py")
    assert passed.returncode == 0 and "1 passed" in passed.stdout, passed.stdout + passed.stderr
    (run,) = json.loads((elsewhere / "models.sarif").read_text())["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["max-batch-size"]
    assert (
        run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/model/config.pbtxt"
    )
