"""Each picture file is decoded once before work begins, so that a broken one is named now and not hours later."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgevit.data.pictures import FileStore, PictureSet
from edgevit.errors import InputError

Progress = Callable[[int, int], None]

MOST_BROKEN_FRACTION = 0.01
LISTED = 10


def no_progress(done: int, total: int) -> None:
    """Takes what a caller does not want to see."""


def drop_broken(
    parts: Sequence[PictureSet], where: str, progress: Progress = no_progress
) -> tuple[list[PictureSet], dict[str, str]]:
    """The parts without the pictures that cannot be decoded, and why each of those was left out, by name.

    Pictures in memory are taken as they are. Raises InputError with the list when more than 1 % are broken.
    """
    total = sum(len(part) for part in parts)
    skipped: dict[str, str] = {}
    whole = []
    done = 0
    for part in parts:
        if not isinstance(part.store, FileStore):
            whole.append(part)
            continue
        kept = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for index, problem in enumerate(pool.map(lambda i, part=part: _problem(part, i), range(len(part)))):
                if problem:
                    skipped[part.names[index]] = problem
                else:
                    kept.append(index)
                done += 1
                progress(done, total)
        whole.append(part.subset(np.array(kept, dtype=np.int64)))
    if len(skipped) > MOST_BROKEN_FRACTION * total:
        raise InputError(f"{where}: {_list_of(skipped, total)}")
    return whole, skipped


def _problem(pictures: PictureSet, index: int) -> str:
    """Why picture `index` cannot be decoded; empty when it can."""
    try:
        pictures.load(index)
    except InputError as error:
        return str(error).split(": ", 1)[-1]
    return ""


def _list_of(skipped: dict[str, str], total: int) -> str:
    first = "; ".join(f"{name} {problem.rstrip('.')}" for name, problem in list(skipped.items())[:LISTED])
    more = f"; and {len(skipped) - LISTED} more" if len(skipped) > LISTED else ""
    return f"{len(skipped)} of {total} pictures are broken, more than 1 %: {first}{more}. Mend or delete them."
