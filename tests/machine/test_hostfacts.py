import importlib.metadata
import shutil
import sys

import numpy
import pytest

from edgevit.machine.hostfacts import Requirement, gather_facts, parse_requirement
from edgevit.units import MIB


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("click>=8.1.7", Requirement("click", "8.1.7", "")),
        ('torch>=2.9; extra == "train"', Requirement("torch", "2.9", "train")),
        ("torch (==2.13.0)", Requirement("torch", "2.13.0", "")),
        ("gdown (>=4.7.3) ; extra == 'gdown'", Requirement("gdown", "4.7.3", "gdown")),
        ("pillow (!=8.3.*,>=5.3.0)", Requirement("pillow", "5.3.0", "")),
        ("types-PyYAML ; extra == 'dev'", Requirement("types-PyYAML", "", "dev")),
    ],
)
def test_a_line_of_metadata_is_read(line, expected):
    assert parse_requirement(line) == expected


def test_facts_are_this_machines(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    facts = gather_facts(tmp_path)
    assert facts.machine.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.folder == str(tmp_path)
    assert facts.offline_variables == ("HF_HUB_OFFLINE",)
    assert facts.ram_free_mib > 1
    assert facts.disk_free_mib <= shutil.disk_usage(tmp_path).total / MIB


def test_versions_come_from_metadata(monkeypatch):
    lines = {"edgevit": ["numpy>=1.26", "no-such-package-here>=1"], "torchvision": ["torch (==9.8.7)"]}
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines[name])
    facts = gather_facts()
    assert facts.installed["numpy"] == numpy.__version__
    assert "no-such-package-here" not in facts.installed
    assert facts.torchvision_needs == "9.8.7"


def test_a_package_that_is_not_installed_has_no_requirements(monkeypatch):
    def refuse(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", refuse)
    facts = gather_facts()
    assert (facts.requirements, facts.torchvision_needs) == ((), "")
