"""SBOM: what a bundle brings and needs, as CycloneDX, for those who must know what runs on their boards."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from edgevit.artifact import Manifest

SBOM = "sbom.cdx.json"


def sbom_of(manifest: Manifest, requirements: Sequence[str]) -> str:
    """CycloneDX 1.6 as JSON: the bundle, its files with their sha256, and the packages that requirements.txt pins.

    manifest: with its files. The same bundle gives the same text: its number and time come from the manifest.
    Source: ECMA-424, CycloneDX Bill of Materials.
    """
    bundle = Component(
        name=f"edgevit-{manifest.model.name}",
        version=manifest.created,
        type=ComponentType.APPLICATION,
        bom_ref="bundle",
        properties=[
            Property(name="edgevit:device", value=manifest.device.name),
            Property(name="edgevit:precision", value=manifest.precision),
            Property(name="edgevit:weights", value=manifest.model.weights),
        ],
    )
    tool = Component(name="edgevit", version=manifest.edgevit, type=ComponentType.APPLICATION, bom_ref="edgevit")
    files = [_file(name, entry.sha256, name == manifest.runtime.entry) for name, entry in manifest.files.items()]
    packages = [_package(line) for line in requirements if "==" in line and not line.startswith("#")]
    identity = "".join(entry.sha256 for entry in manifest.files.values())
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"edgevit:{identity}"), components=[*files, *packages])
    bom.metadata.timestamp = datetime.datetime.fromisoformat(manifest.created)
    bom.metadata.component = bundle
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(bundle, [*files, *packages])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _file(name: str, sha256: str, is_model: bool) -> Component:
    kind = ComponentType.MACHINE_LEARNING_MODEL if is_model else ComponentType.FILE
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
    return Component(name=name, type=kind, bom_ref=f"file:{name}", hashes=hashes)


def _package(requirement: str) -> Component:
    """Of 'numpy==2.4.6', with or without a condition after it."""
    name, _, version = requirement.partition(";")[0].strip().partition("==")
    place = PackageURL("pypi", name=name, version=version)
    return Component(name=name, version=version, type=ComponentType.LIBRARY, bom_ref=str(place), purl=place)
