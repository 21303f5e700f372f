"""The wheel, as a user without torch meets it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgevit.catalog import list_devices, list_recipes

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_every_recipe_and_every_device(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for kind, known in (("recipes", list_recipes()), ("devices", list_devices())):
        packed = {Path(name).stem for name in names if Path(name).parent == Path("edgevit/_catalog", kind)}
        assert packed == set(known) - {"local"}


def test_the_wheel_carries_what_the_code_reads_at_run_time(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for file in (
        "report/page.html.j2",
        "report/page.css",
        "data/samples/chelsea.jpg",
        "data/samples/NOTICE",
        "emulation/counter.c",
        "emulation/classes.h",
        "_catalog/devices/latencies/published.yaml",
        "_catalog/devices/latencies/operators.json",
        "py.typed",
    ):
        assert f"edgevit/{file}" in names


@pytest.mark.network
def test_devices_are_listed_from_a_clean_environment_without_torch(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = str(CHECKOUT / "constraints.txt")
    install = [python, "-m", "pip", "install", "--quiet", "--retries", "0", "--constraint", constraints, str(wheel)]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip could not install the light dependencies: {installed.stderr.strip().splitlines()[-1]}")
    devices = _run(tmp_path, tmp_path / "venv/bin/edgevit", "devices", "--json")
    assert devices.returncode == 0, devices.stderr
    assert '"rpi5"' in devices.stdout
    assert _run(tmp_path, python, "-c", "import torch").returncode != 0
    refused = _run(tmp_path, tmp_path / "venv/bin/edgevit", "run", "digits-vit-tiny")
    assert refused.returncode == 2
    assert "pip install 'edgevit[train]'" in refused.stderr


def _run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
