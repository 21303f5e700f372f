"""A bundle on its board: self-check, bench, predict.

    python agent.py selfcheck            do the logits of golden.npz come out as on the host?
    python agent.py bench                latency, memory, load time
    python agent.py predict IMAGE...     the likeliest classes of pictures

On the host the same runs as `python -m edgevit.board.agent --bundle DIR ...`. Exit codes: 0 done, 1 failed, 2 bad
input, 4 the self-check failed, 6 the measurement is invalid.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edgevit.board.contents import Bundle, open_bundle
from edgevit.board.inference import agreement, run_in_batches, softmax
from edgevit.board.measurement import bench_report, describe_bench
from edgevit.board.power import PowerMeter, find_power_source
from edgevit.board.preprocess import decode_picture, resize_and_crop, to_input
from edgevit.board.sensors import detect_sensors, measure_foreign_share, read_sensors, read_throttle_count, read_usage
from edgevit.board.timer import MIN_RUNS, MIN_SECONDS, measure
from edgevit.errors import BadFileError, EdgevitError, InputError, MeasurementError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

REPORT_SCHEMA_VERSION = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. Results go to stdout; what went wrong is one line on stderr."""
    try:
        arguments = _parse(sys.argv[1:] if argv is None else argv)
        bundle = open_bundle(arguments.bundle)
        commands = {"selfcheck": selfcheck, "bench": bench, "predict": predict}
        commands[arguments.command](bundle, arguments)
        sys.stdout.flush()  # so that a reader who went away is noticed here
    except EdgevitError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:  # argparse's --help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except MemoryError:
        print("Error: out of memory. Close other programs, or use a smaller bundle.", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def open_artifact(bundle: Bundle, threads: int | None) -> Any:
    """A session on the bundle's model. threads: the number that the bundle was made for when None."""
    runtime = bundle.manifest["runtime"]
    path = os.path.join(bundle.path, *runtime["entry"].split("/"))
    return runtime_functions(runtime["name"])["open_session"](path, _threads(bundle, threads), runtime["session"])


def runtime_functions(name: str) -> dict[str, Any]:
    """open_session and import_runtime of a runtime, by name.

    In the bundle's single file they are its own globals, since one runtime's module stands above this one. In the
    package they are found in the table of runtimes, which is imported by name: board is a lower layer.
    """
    here = globals()
    if "open_session" not in here:
        functions: dict[str, Any] = vars(importlib.import_module("edgevit.runtimes").runtime_module(name))
        return functions
    if here["RUNTIME"] != name:
        problem = f"is '{name}', and this agent.py runs '{here['RUNTIME']}'."
        raise BadFileError("manifest.json", problem, where="runtime.name", fix="Make the bundle again.")
    return here


def selfcheck(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Runs golden.npz and prints how near its logits come. Raises ParityError when that is not near enough."""
    session = open_artifact(bundle, arguments.threads)
    golden = bundle.golden
    logits = run_in_batches(session, to_input(golden["images"], bundle.preprocess, session.input_type))
    limits = bundle.manifest["golden"]
    found = agreement(golden["logits"], logits)
    passed = (
        found["nonfinite"] == 0
        and found["cosine"] >= limits["cosine"]
        and found["top1_agreement"] >= limits["top1_agreement"]
    )
    document = {"kind": "selfcheck", "model": bundle.manifest["model"]["name"], "runtime": session.runtime}
    document.update(runtime_version=session.version, n=len(logits), passed=passed, thresholds=limits, **found)
    figures = (
        f"cosine {found['cosine']:.6f} (at least {limits['cosine']}), top-1 agreement "
        f"{100 * found['top1_agreement']:.1f} % (at least {100 * limits['top1_agreement']:.1f} %), "
        f"largest difference {found['max_abs']:.3g}, {len(logits)} pictures"
    )
    if arguments.json:
        _print_json(document)
    elif passed:
        print(f"Self-check passed: {figures}")
    if not passed:
        broken = f", NaN or infinity in {found['nonfinite']} of them" if found["nonfinite"] else ""
        raise ParityError(f"Self-check failed: {figures}{broken}. Do not use this bundle on this machine.")


def bench(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Measures and prints a report. Raises MeasurementError after it when the measurement is invalid."""
    clock = time.perf_counter
    kind = detect_sensors()
    runtime_functions(bundle.manifest["runtime"]["name"])["import_runtime"]()  # is no part of the load time
    meter = PowerMeter(find_power_source(kind))
    readings = [read_sensors("before", kind)]
    usage: list[dict[str, Any]] = []
    counted = read_throttle_count()
    began = clock()
    session = open_artifact(bundle, arguments.threads)
    loaded = clock()
    batch = session.input_shape[0] or 1
    pixels = to_input(np.repeat(bundle.golden["images"][:1], batch, axis=0), bundle.preprocess, session.input_type)
    ready = clock()
    session.run(pixels)
    first = clock()

    def begin() -> None:
        usage.append(read_usage())
        meter.resume()

    def look() -> None:
        meter.pause()
        readings.append(read_sensors("during", kind))
        meter.resume()

    measured = measure(
        lambda: session.run(pixels),
        clock,
        min_seconds=arguments.min_seconds,
        min_runs=arguments.min_runs,
        at_start=begin,
        at_half_time=look,
        on_progress=_progress_teller(arguments),
    )
    meter.pause()
    others_share = measure_foreign_share(usage[0], read_usage())
    readings.append(read_sensors("after", kind))
    document = bench_report(
        bundle.manifest,
        measured,
        readings,
        (counted, read_throttle_count()),
        runtime_version=session.version,
        threads=_threads(bundle, arguments.threads),
        batch=batch,
        device=arguments.device,
        load_ms=(loaded - began) * 1000,
        first_inference_ms=(first - ready) * 1000,
        others_share=others_share,
        energy=meter.result(sum(measured["samples_ms"]) / 1000, len(measured["samples_ms"]) * batch),
    )
    if arguments.json:
        _print_json(document)
    else:
        print(describe_bench(document))
    if not document["is_valid"]:
        raise MeasurementError("The measurement is invalid: " + " ".join(document["invalid_reasons"]))


def predict(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Prints the likeliest classes of each picture. Raises InputError after the last when one could not be read."""
    session = open_artifact(bundle, arguments.threads)
    pictures: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path in arguments.images:
        try:
            pixels = resize_and_crop(decode_picture(path, bundle.preprocess), bundle.preprocess)
        except InputError as error:
            failed.append({"path": path, "error": str(error)})
            print(f"Error: {error}", file=sys.stderr)
            continue
        logits = run_in_batches(session, to_input(pixels[None], bundle.preprocess, session.input_type))
        top = likeliest(softmax(logits)[0], bundle.labels, arguments.top)
        pictures.append({"path": path, "top": top})
        if not arguments.json:
            best = "  ".join(f"{entry['label']} {100 * entry['probability']:.1f} %" for entry in top)
            print(f"{path}: {best}")
    if arguments.json:
        _print_json({"kind": "predict", "pictures": pictures, "failed": failed})
    if failed:
        raise InputError(f"{len(failed)} of {len(arguments.images)} pictures could not be read.")


def likeliest(probabilities: NDArray[np.float64], labels: Sequence[str], count: int) -> list[dict[str, Any]]:
    """The `count` likeliest classes, best first; of equal ones the first class leads."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [{"class": int(i), "label": labels[i], "probability": float(probabilities[i])} for i in order]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}. Run '{self.prog} --help' to see how it is used.")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="agent.py", description="Checks, times and runs a bundle on this machine.")
    _add_shared(parser, os.path.dirname(os.path.abspath(__file__)), None, False)
    shared = _Parser(add_help=False)
    _add_shared(shared, *[argparse.SUPPRESS] * 3)  # given after the command they count, left out they change nothing
    commands = parser.add_subparsers(dest="command", metavar="selfcheck | bench | predict", required=True)
    commands.add_parser("selfcheck", parents=[shared], help="do the logits come out as on the host?")
    timing = commands.add_parser("bench", parents=[shared], help="latency, memory, load time")
    timing.add_argument("--min-seconds", type=_seconds, default=MIN_SECONDS, metavar="S")
    timing.add_argument("--min-runs", type=_positive, default=MIN_RUNS, metavar="N")
    timing.add_argument("--device", metavar="NAME", help="what this machine is (default: what the bundle is made for)")
    pictures = commands.add_parser("predict", parents=[shared], help="the likeliest classes of pictures")
    pictures.add_argument("images", nargs="+", metavar="IMAGE")
    pictures.add_argument("--top", type=_positive, default=5, metavar="K")
    return parser.parse_args(list(argv))


def _add_shared(parser: argparse.ArgumentParser, bundle: str, threads: str | None, as_json: str | bool) -> None:
    parser.add_argument("--bundle", default=bundle, metavar="DIR", help="the bundle (default: this file's directory)")
    parser.add_argument(
        "--threads", type=_positive, default=threads, metavar="N", help="default: what the bundle is made for"
    )
    parser.add_argument("--json", action="store_true", default=as_json, help="one JSON document on stdout")


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (math.isfinite(number) and 0 <= number <= 3600):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds from 0 to 3600")
    return number


def _progress_teller(arguments: argparse.Namespace) -> Callable[[int, float], None] | None:
    """Writes 'progress: DONE TOTAL what' to stderr, where the environment asks for it: over ssh the host does."""
    if os.environ.get("EDGEVIT_PROGRESS") != "1":
        return None

    def tell(runs: int, measured_s: float) -> None:
        share = min(runs / arguments.min_runs, measured_s / arguments.min_seconds if arguments.min_seconds else 1.0)
        print(f"progress: {min(100, int(100 * share))} 100 % ({runs} runs)", file=sys.stderr, flush=True)

    return tell


def _threads(bundle: Bundle, threads: int | None) -> int:
    return threads if threads is not None else int(bundle.manifest["device"]["threads"])


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps({"schema_version": REPORT_SCHEMA_VERSION, **document}, indent=2, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
