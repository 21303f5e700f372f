"""Fits the costs of a core's kernels to counted instructions, and writes them into edgevit/cost/cores.yaml.

    python tests/benchmarks/measure_core_costs.py --counter "COUNT {models} --board pi5 --json {out}" \\
        --core Cortex-A76 --models Cortex-A76,Cortex-A78AE --emulator "qemu 7.2, user mode" [--whole DIRECTORY]

The counter is any command that runs ONNX files on the core, emulated or real, and writes a list of
{"model": path, "million": instructions of one inference, one thread}. --whole: whole models that check the fit.
Takes a few minutes on a fast counter.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import yaml
from core_cost_graphs import all_graphs
from scipy.optimize import nnls

from edgevit.cost.armgraph import graph_on_arm
from edgevit.cost.cores import CORES, CoreCosts, CostTable, KernelCosts, Method, WholeGraph
from edgevit.cost.estimate import MILLION, estimate
from edgevit.cost.work import Tensors, work_of
from edgevit.errors import EdgevitError
from edgevit.yamlfile import read_yaml

COEFFICIENTS = {"per_mac": "macs", "per_input": "inputs", "per_output": "outputs", "per_piece": "pieces"}
BYTES = {"f32": 4, "u8": 1, "s8": 1, "other": 8}
HEADER = """\
# What ONNX Runtime's kernels cost on ARM cores: instructions per multiply-accumulate, element, piece and call.
# Written by tests/benchmarks/measure_core_costs.py, from emulated cores; see there how. Instructions are not time.
"""
Column = tuple[str, str]
Row = dict[Column, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counter", required=True)
    parser.add_argument("--core", required=True)
    parser.add_argument("--models", required=True, help="cores of device profiles, separated by commas")
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--whole", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=CORES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        graphs = write_graphs(Path(folder))
        counted = count(arguments.counter, graphs)
        rows = {path: features(path) for path in counted}
    costs = fit(rows, counted)
    predicted = {path: predict(row, costs) for path, row in rows.items()}
    errors = np.array([abs(predicted[path] / counted[path] - 1) for path in counted])
    for path in sorted(counted, key=lambda path: -abs(predicted[path] / counted[path] - 1))[:25]:
        worst = max(rows[path], key=lambda column: rows[path][column] * costs.get(column, 0.0))
        print(f"  {path.stem} {worst[0]:40s} counted {counted[path]:10.3f} estimated {predicted[path]:10.3f}")
    core = CoreCosts(
        name=arguments.core,
        models=tuple(arguments.models.split(",")),
        method=Method(
            runtime=f"onnxruntime {onnxruntime.__version__}",
            emulator=arguments.emulator,
            counter="instructions of the second inference, one thread",
            measured_on=datetime.now(timezone.utc).date(),
            graphs=len(counted),
            median_error=round(float(np.median(errors)), 4),
            p90_error=round(float(np.quantile(errors, 0.9)), 4),
        ),
        whole_graphs=(),
        per_inference=round(costs.get(("", "per_call"), 0.0)),
        unknown=default_costs(costs),
        kernels=kernels(costs),
    )
    if arguments.whole is not None:
        core = core.model_copy(update={"whole_graphs": tuple(check(core, arguments.counter, arguments.whole))})
    write(core, arguments.output)
    print(f"{core.name}: {len(counted)} graphs, median error {np.median(errors):.1%}, written: {arguments.output}")


def write_graphs(folder: Path) -> list[Path]:
    """Only those that this machine can load: the counter's core has the same operators."""
    paths = []
    for name, model in all_graphs():
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        paths.append(path)
    return paths


def count(command: str, models: list[Path]) -> dict[Path, float]:
    """Million instructions of each model that could be counted."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts.json"
        words = shlex.split(command)
        at = words.index("{models}")
        filled = [*words[:at], *map(str, models), *(word.replace("{out}", str(out)) for word in words[at + 1 :])]
        done = subprocess.run(filled, check=False)
        if not out.exists():
            raise EdgevitError(f"The counter wrote nothing (exit code {done.returncode}).")
        return {Path(row["model"]): row["million"] for row in json.loads(out.read_text())}


def features(path: Path) -> Row:
    """What the graph's instructions are a sum of: (kernel, coefficient) -> how often."""
    model = graph_on_arm(onnx.load(path))
    tensors = Tensors(model)
    outputs = sum(
        math.prod(tensors.shape(value.name)) * BYTES[tensors.type(value.name)] for value in model.graph.output
    )
    row: Row = {("", "per_call"): 1.0, ("", "per_byte"): float(outputs)}  # what Python copies out is no operator's
    for node in model.graph.node:
        work = work_of(node, tensors)
        for coefficient, quantity in COEFFICIENTS.items():
            value = getattr(work, quantity)
            if value:
                row[work.kernel, coefficient] = row.get((work.kernel, coefficient), 0.0) + value
        row[work.kernel, "per_call"] = row.get((work.kernel, "per_call"), 0.0) + 1.0
    return row


def fit(rows: dict[Path, Row], counted: dict[Path, float]) -> dict[Column, float]:
    """Instructions per unit: non-negative least squares of relative errors over all graphs at once."""
    columns = sorted({column for row in rows.values() for column in row})
    matrix = np.zeros((len(rows), len(columns)))
    for index, (path, row) in enumerate(rows.items()):
        for column, value in row.items():
            matrix[index, columns.index(column)] = value / (counted[path] * MILLION)
    norms = np.linalg.norm(matrix, axis=0)
    solution, _ = nnls(matrix / norms, np.ones(len(rows)), maxiter=100 * len(columns))
    return {column: float(value) for column, value in zip(columns, solution / norms, strict=True) if value > 0}


def predict(row: Row, costs: dict[Column, float]) -> float:
    return sum(value * costs.get(column, 0.0) for column, value in row.items()) / MILLION


def kernels(costs: dict[Column, float]) -> dict[str, KernelCosts]:
    names = sorted({kernel for kernel, _ in costs if kernel})
    return {
        name: KernelCosts(**{what: float(f"{value:.4g}") for (kernel, what), value in costs.items() if kernel == name})
        for name in names
    }


def default_costs(costs: dict[Column, float]) -> KernelCosts:
    """An unknown kernel counts as the median of those that work element by element."""
    rates = [value for (kernel, what), value in costs.items() if what in ("per_input", "per_output")]
    return KernelCosts(per_output=float(f"{np.median(rates):.3g}"), per_call=_median_call(costs))


def _median_call(costs: dict[Column, float]) -> float:
    return float(
        f"{np.median([value for (kernel, what), value in costs.items() if kernel and what == 'per_call']):.3g}"
    )


def check(core: CoreCosts, counter: str, folder: Path) -> Iterable[WholeGraph]:
    for path, million in count(counter, sorted(folder.glob("*.onnx"))).items():
        found = estimate(graph_on_arm(onnx.load(path)), core)
        print(f"  {path.stem:24s} counted {million:8.1f} estimated {found.total:8.1f} {found.total / million - 1:+.1%}"
              f"  {found.not_calibrated}")  # fmt: skip
        yield WholeGraph(name=path.stem, counted_million=round(million, 3), estimated_million=round(found.total, 3))


def write(core: CoreCosts, path: Path) -> None:
    """Into the table at `path`, in place of what it says of this core."""
    others = (
        tuple(other for other in read_yaml(path, CostTable).cores if other.name != core.name) if path.exists() else ()
    )
    table = CostTable(cores=tuple(sorted((*others, core), key=lambda costs: costs.name)))
    text = yaml.safe_dump(table.model_dump(mode="json", exclude_defaults=True), sort_keys=False, width=120)
    path.write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main()
