"""The custom resources against their projects' own definitions, which are too large to be kept here.

    CRDS=FOLDER python -m pytest tests/kubernetes/test_crds.py     # *.yaml: of KEDA, KServe and the Prometheus Operator

The same resources are checked without them in test_manifests.py, as far as documentation tells.
"""

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.kubernetes.rendering import COMBINATIONS, rendered
from tests.kubernetes.test_manifests import CUSTOM

CRDS = os.environ.get("CRDS")


def strict(schema: Any) -> Any:
    """A schema that refuses fields which it does not list, as `kubectl apply --validate=strict` does."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(each) for name, each in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    return (
        inner if is_open or not isinstance(schema.get("properties"), dict) else inner | {"additionalProperties": False}
    )


@pytest.mark.skipif(not CRDS, reason="no definitions of custom resources; set CRDS to a folder with them")
def test_every_custom_resource_is_as_its_project_defines_it() -> None:
    documents = [yaml.safe_load(path.read_text()) for path in Path(str(CRDS)).glob("*.yaml")]
    schemas = {
        (document["spec"]["names"]["kind"], f"{document['spec']['group']}/{version['name']}"): strict(
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        )
        for document in documents
        for version in document["spec"]["versions"]
    }
    used = [each for name in COMBINATIONS for each in rendered(name) if each["kind"] in CUSTOM]
    for each in used:
        # Without a check of the schema itself, whose patterns are Go's.
        jsonschema.Draft202012Validator(schemas[each["kind"], each["apiVersion"]]).validate(each["spec"])
    assert {each["kind"] for each in used} == CUSTOM.keys()
