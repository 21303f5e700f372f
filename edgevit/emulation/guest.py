"""Guest: what runs on the emulated board, as `python3 -m edgevit.emulation.guest`; numpy and the runtime only.

Its output is a JSON document a line: {"done", "total"} meanwhile, and at last what it found.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.contents import open_bundle
from edgevit.board.inference import run_in_batches
from edgevit.board.measurement import peak_rss_mib
from edgevit.board.preprocess import to_input
from edgevit.board.session import open_artifact
from edgevit.errors import EdgevitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevit.board.contents import Bundle

# counter.c knows them: a scheduling policy that no kernel has, so that asking for its priorities changes nothing.
MARK_BEGIN, MARK_END = 0x0ED6E001, 0x0ED6E002
THREADS = 1


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="edgevit.emulation.guest", description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--count", action="store_true", help="two inferences, the second between two marks")
    parser.add_argument("--pictures", help="an .npy file of more pictures, as golden.npz has them")
    parser.add_argument("--logits", help="the .npz file to write: golden, pictures")
    arguments = parser.parse_args(argv)
    try:
        bundle = open_bundle(arguments.bundle)
        if arguments.count:
            count_second_inference(bundle)
        else:
            _write(run_pictures(bundle, arguments.pictures, arguments.logits))
    except EdgevitError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run_pictures(bundle: Bundle, pictures: str | None, logits: str) -> dict[str, Any]:
    """What is found besides the logits, which go to a file of that name."""
    session = open_artifact(bundle, THREADS)
    sets = {"golden": bundle.golden["images"]}
    if pictures is not None:
        sets["pictures"] = np.load(pictures, allow_pickle=False)
    total = sum(map(len, sets.values()))
    found: dict[str, NDArray[np.float32]] = {}
    done = 0
    for name, images in sets.items():
        size = session.input_shape[0] or 1
        parts = []
        for start in range(0, len(images), size):
            pixels = to_input(images[start : start + size], bundle.preprocess, session.input_type)
            parts.append(run_in_batches(session, pixels))
            done += len(pixels)
            _write({"done": done, "total": total})
        found[name] = np.concatenate(parts)  # (N, classes)
    np.savez(logits, allow_pickle=False, **found)
    return {
        "runtime_version": session.version,
        "peak_rss_mib": peak_rss_mib(),
        "arch": platform.machine(),
        "python": platform.python_version(),
    }


def count_second_inference(bundle: Bundle) -> None:
    """The first inference also allocates and packs; of the second nothing but the inference lies between the marks."""
    session = open_artifact(bundle, THREADS)
    batch = session.input_shape[0] or 1
    images = np.repeat(bundle.golden["images"][:1], batch, axis=0)
    pixels = to_input(images, bundle.preprocess, session.input_type)
    session.run(pixels)
    gc.collect()
    gc.disable()
    _mark(MARK_BEGIN)
    session.run(pixels)
    _mark(MARK_END)


def _mark(number: int) -> None:
    try:
        os.sched_get_priority_max(number)
    except OSError:  # EINVAL, always
        return


def _write(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    sys.exit(main())
