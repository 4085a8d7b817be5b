"""What checkov, a scanner of manifests with policies of its own, thinks of ours; in an environment of its own."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.kubernetes.environments import program
from tests.kubernetes.rendering import COMBINATIONS, rendered

# Hundreds of pinned packages.
CHECKOV = "checkov==3.3.30"
# Policies that are not followed, and why.
ACCEPTED = {
    "CKV_K8S_15": "imagePullPolicy Always: tags here are releases, which do not change",
    "CKV_K8S_21": "a namespace: the user's kustomization chooses it",
    "CKV_K8S_40": "user ids above 10000: NVIDIA's image has 1000",
    "CKV_K8S_43": "digests: the images are built by the user",
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
# It knows no InferenceService; ours has what test_manifests.py asks of all pods.
@pytest.mark.parametrize("name", COMBINATIONS.keys() - {"kserve"})
def test_no_policy_is_broken_but_those_that_are_accepted(name: str, tmp_path: Path) -> None:
    (tmp_path / "rendered.yaml").write_text(yaml.safe_dump_all(rendered(name)))
    line = [program("checkov", CHECKOV), "--framework", "kubernetes", "--output", "json", "--directory", tmp_path]
    found = json.loads(subprocess.run(line, capture_output=True, text=True).stdout)
    assert found["summary"]["passed"] > 50
    broken = {
        f"{each['check_id']} {each['check_name']}: {each['resource']}" for each in found["results"]["failed_checks"]
    }
    assert {words for words in broken if words.split()[0] not in ACCEPTED} == set()


def test_what_was_installed_in_part_is_not_used_and_what_cannot_be_had_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "nothing" / "bin" / "nothing"
    left.parent.mkdir(parents=True)
    left.touch()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(pytest.skip.Exception, match=r"(?s)nothing==1 cannot be had: .*No matching distribution"):
        program("nothing", "nothing==1", tmp_path)
