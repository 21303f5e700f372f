from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from edgevit.benchreport import BenchReport
from edgevit.board.amalgamate import AGENT_RUNTIMES, agent_source, join_parts, take_apart
from edgevit.errors import UnknownNameError
from edgevit.runtimes import RUNTIMES

# what a board has: neither edgevit nor the heavy libraries of the host
ISOLATED = (
    "import runpy, sys\n"
    "for name in ('edgevit', 'torch', 'onnx', 'pydantic', 'rich', 'click'): sys.modules[name] = None\n"
    "path = sys.argv[1]; del sys.argv[0]\n"
    "runpy.run_path(path, run_name='__main__')\n"
)


@pytest.fixture(scope="module", params=AGENT_RUNTIMES)
def source(request: pytest.FixtureRequest) -> str:
    return agent_source(request.param)


def test_every_runtime_has_an_agent() -> None:
    assert set(AGENT_RUNTIMES) == set(RUNTIMES)


def test_agent_is_python_3_8(source: str) -> None:
    tree = ast.parse(source, feature_version=(3, 8))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"removeprefix", "removesuffix", "is_relative_to", "pairwise", "bit_count"}
    keywords = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords}
    assert not keywords & {"strict", "slots", "kw_only", "exit_on_error"}


def test_agent_imports_only_the_standard_library_and_numpy_at_its_top(source: str) -> None:
    roots = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots - set(sys.stdlib_module_names) == {"numpy"}


def test_agent_has_no_name_twice_and_no_edgevit(source: str) -> None:
    tree = ast.parse(source)
    names = Counter(node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    names += Counter(
        target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
        if isinstance(target, ast.Name)
    )  # fmt: skip
    assert [name for name, count in names.items() if count > 1] == []
    assert not any(isinstance(node, ast.ImportFrom) and "edgevit" in (node.module or "") for node in ast.walk(tree))


def test_agent_has_no_unused_or_undefined_name(source: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.py"
    path.write_text(source)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_agent_says_how_it_is_used(source: str) -> None:
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert "python agent.py selfcheck" in docstring
    assert "Needs Python 3.8" in docstring


@pytest.mark.parametrize("runtime", [name for name in AGENT_RUNTIMES if RUNTIMES[name].suffix == ".onnx"])
def test_agent_runs_where_edgevit_is_not(runtime: str, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    if find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    spec = {"name": runtime, "version": "1", "entry": "model.onnx", "session": {}}
    root = make_bundle(agent=agent_source(runtime), runtime=spec)
    Image.new("RGB", (9, 7), (255, 0, 0)).save(tmp_path / "red.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", ISOLATED, str(root / "agent.py"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=elsewhere, timeout=120)

    checked = run("selfcheck", "--json")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert json.loads(checked.stdout)["passed"] is True
    timed = run("bench", "--json", "--min-seconds", "0")
    assert timed.returncode == 0, timed.stderr
    assert BenchReport.model_validate_json(timed.stdout).latency_ms.runs >= 64
    predicted = run("predict", str(tmp_path / "red.png"))
    assert predicted.stdout.startswith(f"{tmp_path / 'red.png'}: red ")
    assert run("fly").returncode == 2


def test_agent_without_its_runtime_says_how_to_install_it(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle(agent=agent_source("onnxruntime"))
    without = ISOLATED.replace("'torch'", "'torch', 'onnxruntime'")
    command = [sys.executable, "-I", "-c", without, str(root / "agent.py"), "selfcheck"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr == (
        "Error: This needs the package 'onnxruntime'. Install it with: pip install onnxruntime, or in a bundle's "
        "directory: pip install -r requirements.txt\n"
    )


def test_a_runtime_without_a_module_has_no_agent() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown runtime 'onnxruntim'. Did you mean 'onnxruntime'"):
        agent_source("onnxruntim")


def test_a_module_keeps_its_text_without_docstring_and_imports() -> None:
    part = take_apart(
        "x",
        '"""Says what.\n\nMore."""\n\nfrom __future__ import annotations\n\nimport os.path\nfrom typing import (\n'
        "    Any,\n    NoReturn,\n)\nfrom edgevit.errors import (\n    InputError,\n)\n\nif TYPE_CHECKING:\n"
        "    from numpy.typing import NDArray\n    Alias = int\n\nA = 1  # kept\n",
    )
    assert part.imports == ("import os.path", "from typing import Any", "from typing import NoReturn")
    assert part.typing_only == ("from numpy.typing import NDArray", "Alias = int")
    assert part.body == "A = 1  # kept"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import edgevit.errors", "x: import edgevit"),
        ("from edgevit.errors import InputError as E", "x: E is an alias"),
    ],
)
def test_what_one_file_cannot_keep_is_refused(text: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        take_apart("x", text)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("def f(): pass", "f: int = 1", "f is defined in a and in b"),
        ("from time import sleep", "def sleep(): pass", "sleep is imported by one part and defined in b"),
        ("def f():\n    from edgevit.errors import InputError", "", "a: imports edgevit inside a function"),
        ("import torch", "", "may stand beside the standard library"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(first: str, second: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        join_parts([take_apart("a", first), take_apart("b", second)])
