from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgevit.artifact import Manifest
from edgevit.sbom import sbom_of

REQUIREMENTS = ("onnxruntime==1.31.1", "numpy==2.4.6 ; python_version == '3.11'", "# TensorRT comes with JetPack")


@pytest.fixture
def manifest(make_bundle: Callable[..., Path]) -> Manifest:
    return Manifest.model_validate_json((make_bundle("bundle") / "manifest.json").read_bytes())


def test_it_keeps_the_standard(manifest: Manifest) -> None:
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom_of(manifest, REQUIREMENTS))
    assert found is None, found


def test_it_lists_every_file_with_its_hash_and_every_pinned_package(manifest: Manifest) -> None:
    document = json.loads(sbom_of(manifest, REQUIREMENTS))
    components = {each["name"]: each for each in document["components"]}
    assert set(components) == {*manifest.files, "onnxruntime", "numpy"}
    for name, entry in manifest.files.items():
        assert components[name]["hashes"] == [{"alg": "SHA-256", "content": entry.sha256}]
    assert components["model.onnx"]["type"] == "machine-learning-model"
    assert components["numpy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    assert document["metadata"]["component"]["name"] == "edgevit-tiny"
    assert len(document["dependencies"]) == len(components) + 1


def test_the_same_bundle_gives_the_same_text_and_another_one_another_number(manifest: Manifest) -> None:
    assert sbom_of(manifest, REQUIREMENTS) == sbom_of(manifest, REQUIREMENTS)
    files = {name: entry.model_copy(update={"sha256": "0" * 64}) for name, entry in manifest.files.items()}
    other = sbom_of(manifest.model_copy(update={"files": files}), REQUIREMENTS)
    assert json.loads(other)["serialNumber"] != json.loads(sbom_of(manifest, REQUIREMENTS))["serialNumber"]
