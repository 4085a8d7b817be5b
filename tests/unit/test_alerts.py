"""Prometheus's rules and the dashboard: what promtool thinks of them, and whether each rule is tried."""

import re
import shutil
import subprocess

import pytest

from tools.repository import ROOT

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
CASES = ROOT / "tests" / "unit" / "alerts.yml"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian, Ubuntu: apt install prometheus)"
)


def promtool(*arguments: str) -> None:
    result = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_the_rules_raise_what_they_should_and_nothing_else() -> None:
    promtool("test", "rules", str(CASES))


@needs_promtool
def test_the_configuration_and_its_rules_pass_promtool() -> None:
    # It looks for the rules beside the configuration, as Compose mounts both.
    promtool("check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yml"))


def test_every_alert_is_raised_in_a_case() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert len(alerts) > 8
    assert set(alerts) == set(re.findall(r'alertname="(\w+)"', CASES.read_text()))
