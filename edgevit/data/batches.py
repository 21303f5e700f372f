"""Pictures as the model's input, in batches, and a model's logits for all of them; memory does not grow with N."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.board.preprocess import Preprocess, resize_and_crop, to_input
from edgevit.data.pictures import FileStore, PictureSet
from edgevit.errors import InputError, ShapeMismatchError

Run = Callable[[NDArray[Any]], NDArray[np.float32]]

_PREPARED_AT_ONCE = 64


def prepared(pictures: PictureSet, preprocess: Preprocess) -> NDArray[np.uint8]:
    """uint8 (N, height, width, channels): all pictures, resized and cropped. Raises InputError naming a bad picture."""
    out = np.empty((len(pictures), preprocess.height, preprocess.width, preprocess.channels), np.uint8)
    filled = 0
    for batch in _prepared_batches(pictures, preprocess, _PREPARED_AT_ONCE):
        out[filled : filled + len(batch)] = batch
        filled += len(batch)
    return out


def input_batches(
    pictures: PictureSet, preprocess: Preprocess, batch_size: int, input_type: str = "float32"
) -> Iterator[NDArray[Any]]:
    """to_input of batch_size pictures each, in the pictures' order; the last may be smaller."""
    for batch in _prepared_batches(pictures, preprocess, batch_size):
        yield to_input(batch, preprocess, input_type)


def predict_all(
    run: Run,
    pictures: PictureSet,
    preprocess: Preprocess,
    batch_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    input_type: str = "float32",
) -> NDArray[np.float32]:
    """Logits float32 (N, classes) of all pictures. `progress` is called with (done, total) after each batch.

    input_type: what `run` takes, as a Session says it.

    Raises InputError when there are no pictures, ShapeMismatchError when `run` gives something else than (n, classes).
    """
    if not len(pictures):
        raise InputError("There are no pictures to predict.")
    parts: list[NDArray[np.float32]] = []
    done = 0
    for batch in input_batches(pictures, preprocess, batch_size, input_type):
        logits = np.asarray(run(batch), dtype=np.float32)
        if (
            logits.ndim != 2
            or len(logits) != len(batch)
            or logits.shape[1:] != (parts[0] if parts else logits).shape[1:]
        ):
            raise ShapeMismatchError(f"The model gave {logits.shape} for {len(batch)} pictures, not (N, classes).")
        parts.append(logits)
        done += len(batch)
        progress(done, len(pictures))
    return np.concatenate(parts)


def _prepared_batches(pictures: PictureSet, preprocess: Preprocess, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """uint8 (n, height, width, channels); files are decoded in threads, what is in memory is not worth them."""
    workers = (os.cpu_count() or 1) if isinstance(pictures.store, FileStore) else 1
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(pictures), batch_size):
            rows = range(start, min(start + batch_size, len(pictures)))
            apply = map if workers == 1 else pool.map
            yield np.stack(list(apply(lambda row: _prepare(pictures, row, preprocess), rows)))


def _prepare(pictures: PictureSet, index: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    picture = pictures.load_array(index) if preprocess.color == "bands" else pictures.load(index)
    try:
        return resize_and_crop(picture, preprocess)
    except InputError as error:
        raise InputError(f"{pictures.names[index]}: {error}") from None
