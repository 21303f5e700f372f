"""Writes the bundle's agent.py: the modules that a board needs, one after the other in a single readable file.

Host only. Imports are gathered at the top, those of edgevit itself are dropped, since what they name stands above.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from edgevit.errors import UnknownNameError

# The table of runtimes is in a higher layer.
AGENT_RUNTIMES = ("onnxruntime", "openvino", "litert", "executorch", "tensorrt", "torchscript")
SENSORS = ("board.files", "board.linux", "board.raspberrypi", "board.jetson", "board.tegrastats", "board.power",
           "board.sensors")  # fmt: skip
MODULES_BEFORE_RUNTIME = (
    "errors",
    "board.preprocess",
    "board.stats",
    "board.timer",
    "board.cooldown",
    "board.options",
    *SENSORS,
    "board.validity",
    "board.governor",
    "board.cores",
    "board.child",
    "board.coldstart",
    "board.sweep",
    "board.streams",
    "board.measurement",
    "board.describe",
    "board.integrity",
    "board.contents",
    "board.inference",
    "board.session",
)
# Of some runtimes alone.
RUNTIME_MODULES = {
    "onnxruntime": ("board.ortsession",),
    "litert": ("board.chatter",),
    "executorch": ("board.chatter",),
    "tensorrt": (
        "board.cuda",
        "board.trtexec",
        "board.engines",
        "board.trtbuilder",
        "board.trttimes",
        "board.ortsession",
        "board.ortgpu",
        "board.trtbench",
    ),
}
MODULES_OF_FACTS = (*SENSORS, "board.microbench", "board.facts")
NUMPY = "import numpy as np"
HEADER = '''#!/usr/bin/env python3
"""The agent of this bundle: checks, times and runs it on this machine. Written by edgevit {version}.

{usage}

Needs Python 3.8 or later and what requirements.txt lists. It is made of edgevit's modules, one after the other.
Source and license (Apache-2.0): see edgevit.
"""

from __future__ import annotations

'''
FACTS_HEADER = '''#!/usr/bin/env python3
"""What this machine says of itself, as one JSON document. It reads only. Written by edgevit {version}.

Needs Python 3.8 or later and no package. It is made of edgevit's modules, one after the other.
Source and license (Apache-2.0): see edgevit.
"""

from __future__ import annotations

'''
BANNER = "\n\n# {rule}\n# {name}\n# {rule}\n{purpose}\n\n\n"


@dataclass(frozen=True)
class Part:
    """One module, taken apart. `typing_only`: the statements of its `if TYPE_CHECKING:` blocks."""

    name: str
    docstring: str
    imports: tuple[str, ...]
    typing_only: tuple[str, ...]
    body: str


def agent_source(runtime: str) -> str:
    """The text of agent.py for a runtime: valid Python 3.8 that imports the standard library and numpy at its top.

    Raises UnknownNameError for a runtime without a module, AssertionError when edgevit's modules cannot be joined.
    """
    if runtime not in AGENT_RUNTIMES:
        raise UnknownNameError("runtime", runtime, AGENT_RUNTIMES, "edgevit export --help")
    own = RUNTIME_MODULES.get(runtime, ())
    names = (*MODULES_BEFORE_RUNTIME, *own, f"runtimes.{runtime}", "board.bench", "board.agent")
    parts = [take_apart(name, _read_module(name)) for name in names]
    text = join_parts(parts)
    compile(text, "agent.py", "exec")
    ast.parse(text, feature_version=(3, 8))
    return text


def facts_source() -> str:
    """The text of facts.py: Python 3.8 that imports the standard library only and prints board.facts' document."""
    text = join_parts([take_apart(name, _read_module(name)) for name in MODULES_OF_FACTS], FACTS_HEADER)
    compile(text, "facts.py", "exec")
    ast.parse(text, feature_version=(3, 8))
    return text


def take_apart(name: str, source: str) -> Part:
    """A module's imports, its typing-only statements and the rest, as it is written.

    AssertionError for what would mean something else in one file: `import edgevit`, an alias of an edgevit name.
    """
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    imports: list[str] = []
    typing_only: list[str] = []
    dropped: set[int] = set()
    for position, node in enumerate(tree.body):
        is_docstring = position == 0 and ast.get_docstring(tree) is not None
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports += _outside_imports(name, node)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                is_import = isinstance(inner, (ast.Import, ast.ImportFrom))
                typing_only += _outside_imports(name, inner) if is_import else [ast.unparse(inner)]
        elif not is_docstring:
            continue
        dropped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    body = "".join(line for number, line in enumerate(lines, start=1) if number not in dropped)
    return Part(name, ast.get_docstring(tree) or "", tuple(imports), tuple(typing_only), body.strip("\n"))


def join_parts(parts: Iterable[Part], header: str = HEADER) -> str:
    """One file. header: with places for {version} and, if it likes, {usage}.

    AssertionError when two parts define the same name, or a local import would need edgevit.
    """
    from edgevit import __version__

    parts = list(parts)
    _check_names(parts)
    usage = parts[-1].docstring.split("\n\n")[1] if "\n\n" in parts[-1].docstring else ""
    imports = {line for part in parts for line in part.imports}
    standard = {line for line in imports if line.split()[1].split(".")[0] in sys.stdlib_module_names}
    assert imports - standard <= {NUMPY}, f"only {NUMPY!r} may stand beside the standard library: {imports - standard}"
    text = header.format(version=__version__, usage=usage)
    text += "\n".join(_merged(standard)) + "\n" + (f"\n{NUMPY}\n" if NUMPY in imports else "")
    typing_only = _merged({line for part in parts for line in part.typing_only})
    if typing_only:
        text += "\nif TYPE_CHECKING:\n" + textwrap.indent("\n".join(typing_only), "    ") + "\n"
    for part in parts:
        purpose = textwrap.indent(part.docstring.split("\n\n")[0].strip(), "# ")
        text += BANNER.format(rule="-" * 70, name=f"edgevit.{part.name}", purpose=purpose) + part.body + "\n"
    return text


def _read_module(name: str) -> str:
    *rooms, module = name.split(".")
    return files("edgevit").joinpath(*rooms, f"{module}.py").read_text(encoding="utf-8")


def _outside_imports(module: str, node: ast.stmt) -> list[str]:
    """One line for each name that is imported from outside edgevit; `from __future__` has its place in the header."""
    if isinstance(node, ast.Import):
        assert not any(alias.name.split(".")[0] == "edgevit" for alias in node.names), f"{module}: import edgevit"
        return [ast.unparse(ast.Import([alias])) for alias in node.names]
    assert isinstance(node, ast.ImportFrom)
    origin = node.module or ""
    if origin == "__future__":
        return []
    if origin.split(".")[0] == "edgevit" or node.level:
        aliases = [alias.asname for alias in node.names if alias.asname]
        assert not aliases, f"{module}: {aliases[0]} is an alias, which one file cannot keep"
        return []
    return [ast.unparse(ast.ImportFrom(origin, [alias], 0)) for alias in node.names]


def _merged(lines: Iterable[str]) -> list[str]:
    """Statements in order: `import` lines, one `from` line for each module, then the rest."""
    names: dict[str, list[str]] = {}
    others: list[str] = []
    for line in sorted(lines):
        origin, separator, name = line.partition(" import ")
        if separator and origin.startswith("from "):
            names.setdefault(origin, []).append(name)
        else:
            others.append(line)
    plain = [line for line in others if line.startswith("import ")]
    rest = [line for line in others if not line.startswith("import ")]
    return [*plain, *(f"{origin} import {', '.join(found)}" for origin, found in names.items()), *rest]


def _check_names(parts: Iterable[Part]) -> None:
    owners: dict[str, str] = {}
    for part in parts:
        tree = ast.parse(part.body)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != "edgevit", f"{part.name}: imports edgevit inside a function"
        for name in sorted(_defined_names(tree)):
            assert name not in owners, f"{name} is defined in {owners[name]} and in {part.name}"
            owners[name] = part.name
    imported = {line.split()[-1].split(".")[0] for part in parts for line in part.imports}
    clash = sorted(imported & set(owners))
    assert not clash, f"{clash[0]} is imported by one part and defined in {owners[clash[0]]}"


def _defined_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names
