"""A bundle on its board: self-check, bench, predict.

    python agent.py selfcheck            do the logits of golden.npz come out as on the host?
    python agent.py bench                latency, memory, load time
    python agent.py predict IMAGE...     the likeliest classes of pictures
    python agent.py build                TensorRT only: the engine for this board, which bench builds as well
    python agent.py trtexec              TensorRT only: the report of bench, measured by trtexec

On the host the same runs as `python -m edgevit.board.agent --bundle DIR ...`. Exit codes: 0 done, 1 failed, 2 bad
input, 4 the self-check failed, 5 the machine is unfit, 6 the measurement is invalid.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edgevit.board.bench import bench_bundle_here, time_one_start
from edgevit.board.contents import Bundle, open_bundle
from edgevit.board.describe import describe_document
from edgevit.board.inference import agreement, run_in_batches, softmax
from edgevit.board.options import (
    DEFAULT_STARTS,
    BenchOptions,
    parse_batch,
    parse_cores,
    parse_duration,
    parse_percentiles,
    parse_runs,
    parse_seconds,
    parse_starts,
    parse_streams,
    parse_threads,
)
from edgevit.board.preprocess import decode_picture, resize_and_crop, to_input
from edgevit.board.session import open_artifact, prepare_artifact, runtime_functions
from edgevit.board.timer import MIN_RUNS, MIN_SECONDS
from edgevit.errors import EdgevitError, InputError, MeasurementError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

REPORT_SCHEMA_VERSION = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. Results go to stdout; what went wrong is one line on stderr."""
    try:
        began = time.monotonic()
        arguments = _parse(sys.argv[1:] if argv is None else argv)
        arguments.began = began
        bundle = open_bundle(arguments.bundle)
        commands = {"selfcheck": selfcheck, "bench": bench, "predict": predict, "start": start}
        commands.update(build=build, trtexec=trtexec)
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


def selfcheck(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Runs golden.npz and prints how near its logits come. Raises ParityError when that is not near enough."""
    session = open_artifact(bundle, _one(arguments.threads))
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
    _print_report(bench_bundle_here(bundle, arguments.options, arguments.device), arguments.json)


def start(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Prints where the time went from this process's start to the first logits; `bench --cold-start` asks for it."""
    _print_json(time_one_start(bundle, _one(arguments.threads), arguments.batch, arguments.began))


def build(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Builds what this board needs beside the bundle, TensorRT's engine, and prints where it is and what it is for."""
    began = time.monotonic()
    engine = prepare_artifact(bundle, force=arguments.force, timeout_s=arguments.timeout)
    if engine is None:
        name = bundle.manifest["runtime"]["name"]
        raise InputError(f"There is nothing to build here for {name}: run 'agent.py bench' or 'agent.py selfcheck'.")
    key = engine.key
    document = {
        "kind": "build", "engine": engine.path, "was_built": engine.was_built, "built_by": engine.built_by,
        "build_s": engine.seconds, "gpu": key.gpu, "tensorrt": key.tensorrt, "precision": key.precision,
        "model_sha256": key.model_sha256,
    }  # fmt: skip
    if arguments.json:
        _print_json(document)
        return
    done = f"Built in {time.monotonic() - began:.0f} s" if engine.was_built else "Already there"
    print(f"{done}: {engine.path}\nFor {key.gpu}, TensorRT {key.tensorrt}, {key.precision}, by {engine.built_by}.")


def trtexec(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Measures with trtexec and prints the same report as bench. Raises MeasurementError when it is invalid."""
    time_engine = runtime_functions(bundle.manifest["runtime"]["name"]).get("time_engine")
    if time_engine is None:
        raise InputError("trtexec times bundles for TensorRT only. Run 'agent.py bench'.")
    _print_report(time_engine(bundle, prepare_artifact(bundle), arguments.seconds, arguments.device), arguments.json)


def predict(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Prints the likeliest classes of each picture. Raises InputError after the last when one could not be read."""
    session = open_artifact(bundle, _one(arguments.threads))
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


def _print_report(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(document)
    else:
        print(describe_document(document))
    if not document["is_valid"]:
        raise MeasurementError("The measurement is invalid: " + " ".join(document["invalid_reasons"]))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}. Run '{self.prog} --help' to see how it is used.")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="agent.py", description="Checks, times and runs a bundle on this machine.")
    _add_shared(parser, os.path.dirname(os.path.abspath(__file__)), (), False)
    shared = _Parser(add_help=False)
    _add_shared(shared, *[argparse.SUPPRESS] * 3)  # given after the command they count, left out they change nothing
    commands = parser.add_subparsers(
        dest="command", metavar="selfcheck | bench | predict | build | trtexec", required=True
    )
    commands.add_parser("selfcheck", parents=[shared], help="do the logits come out as on the host?")
    _add_bench(commands.add_parser("bench", parents=[shared], help="latency, memory, load time"))
    pictures = commands.add_parser("predict", parents=[shared], help="the likeliest classes of pictures")
    pictures.add_argument("images", nargs="+", metavar="IMAGE")
    pictures.add_argument("--top", type=_typed(parse_runs), default=5, metavar="K")
    building = commands.add_parser("build", parents=[shared], help="TensorRT's engine for this board, as bench does")
    building.add_argument("--force", action="store_true", help="also where there is one")
    building.add_argument("--timeout", type=_typed(parse_duration), metavar="S", help="give up after S seconds")
    timing = commands.add_parser("trtexec", parents=[shared], help="the same report as bench, measured by trtexec")
    timing.add_argument("--seconds", type=_typed(parse_duration), default=MIN_SECONDS, metavar="S")
    timing.add_argument("--device", metavar="NAME", help="what this machine is (default: what the bundle is made for)")
    starting = commands.add_parser("start", parents=[shared])  # has no help: it is for `bench --cold-start`
    starting.add_argument("--batch", type=_typed(parse_batch), metavar="N")
    arguments = parser.parse_args(list(argv))
    if arguments.command == "bench":
        arguments.options = BenchOptions(
            **{field.name: getattr(arguments, field.name) for field in fields(BenchOptions)}
        )
        arguments.options.check()
    elif len(arguments.threads) > 1:
        raise InputError("--threads takes several numbers with bench only.")
    return arguments


def _add_shared(parser: argparse.ArgumentParser, bundle: str, threads: object, as_json: str | bool) -> None:
    parser.add_argument("--bundle", default=bundle, metavar="DIR", help="the bundle (default: this file's directory)")
    parser.add_argument(
        "--threads",
        type=_typed(parse_threads),
        default=threads,
        metavar="N[,N...]",
        help="default: what the bundle is made for; several, for bench: one report each",
    )
    parser.add_argument("--json", action="store_true", default=as_json, help="one JSON document on stdout")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    for name, parse, metavar, text in (
        ("--min-seconds", parse_seconds, "S", f"measure at least so long (default: {MIN_SECONDS:.0f})"),
        ("--min-runs", parse_runs, "N", f"and at least so often (default: {MIN_RUNS})"),
        ("--duration", parse_duration, "S", "measure so long, a day at most"),
        ("--batch", parse_batch, "N", "pictures at a time, where the bundle leaves that free"),
        ("--streams", parse_streams, "N", "sessions at a time, each back to back"),
    ):
        parser.add_argument(name, type=_typed(parse), metavar=metavar, help=text)
    parser.add_argument(
        "--percentiles", type=_typed(parse_percentiles), default=(), metavar="P,P", help="more of them, as 99.9"
    )
    parser.add_argument(
        "--cold-start", type=_typed(parse_starts), nargs="?", const=DEFAULT_STARTS, metavar="N",
        help=f"from the start of a process to its first logits, in N processes (default: {DEFAULT_STARTS})",
    )  # fmt: skip
    parser.add_argument("--single-stream", action="store_true", help="like MLPerf's SingleStream; no MLPerf result")
    parser.add_argument("--cores", type=_typed(parse_cores), metavar="LIST", help="0,2 or 4-7; big, little")
    parser.add_argument("--cool-down", action="store_true", help="wait until the CPU no longer cools")
    parser.add_argument("--set-governor", action="store_true", help="'performance' while it measures; may take sudo")
    parser.add_argument("--device", metavar="NAME", help="what this machine is (default: what the bundle is made for)")


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` as argparse wants it."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _one(threads: Sequence[int]) -> int | None:
    """The number of threads asked for; None when none was."""
    return threads[0] if threads else None


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps({"schema_version": REPORT_SCHEMA_VERSION, **document}, indent=2, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
