"""Roofline: the time of an inference as the sum of its operators', each as slow as its arithmetic or its memory.

Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; threads by Amdahl's law.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevit.latency.coefficients import (
    Key,
    bandwidth_keys,
    library_of,
    overhead_keys,
    serial_keys,
    share_keys,
)
from edgevit.latency.machine import MachineFigures, bytes_per_s, capacity, peak_per_s
from edgevit.latency.operators import PRODUCTS, Operator, Precision

BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Situation:
    """An inference to be timed. `model`, `board`: what shares deviations of its own from the figures."""

    model: str
    operators: tuple[Operator, ...]
    machine: MachineFigures
    board: str
    runtime: str
    threads: int


def keys_of(situation: Situation) -> tuple[Key, ...]:
    """All coefficients that the situation's time depends on."""
    library, core, board = library_of(situation.runtime), situation.machine.core, situation.board
    shares = (
        share_keys(item.kind, item.precision, situation.model, library, core, board) for item in situation.operators
    )
    others = (*bandwidth_keys(board), *overhead_keys(library), *serial_keys(library, board))
    return tuple(dict.fromkeys((*itertools.chain.from_iterable(shares), *others)))


@dataclass(frozen=True)
class _Parts:
    """Of each operator, in seconds a node; `seconds` of all its nodes. by_serial: slope of the logarithm of compute."""

    compute: Floats
    memory: Floats
    overhead: Floats
    seconds: Floats
    by_serial: Floats


class Roofline:
    """Situations as arrays, so that many are timed at once for other coefficients.

    keys: which coefficient each place of a vector is; all that the situations need must be among them.
    """

    def __init__(self, situations: Sequence[Situation], keys: Sequence[Key]) -> None:
        place = {key: index for index, key in enumerate(keys)}
        pairs = [(row, item) for row, situation in enumerate(situations) for item in situation.operators]
        libraries = [library_of(situation.runtime) for situation in situations]
        machines = [situation.machine for situation in situations]
        boards = [situation.board for situation in situations]

        def places(groups: Sequence[tuple[Key, ...]]) -> NDArray[np.intp]:
            return np.array([[place[key] for key in group] for group in groups], dtype=np.intp)

        self.size = len(situations)
        self.row = np.array([row for row, _ in pairs], dtype=np.intp)
        self.count = np.array([item.count for _, item in pairs], dtype=float)
        self.shares = places(
            [
                share_keys(i.kind, i.precision, situations[r].model, libraries[r], machines[r].core, boards[r])
                for r, i in pairs
            ]
        )
        self.bandwidths = places([bandwidth_keys(board) for board in boards])
        self.overheads = places([overhead_keys(library) for library in libraries])
        self.serials = places([serial_keys(library, board) for library, board in zip(libraries, boards, strict=True)])
        # Seconds at the whole peak of one of the fastest cores, and at the memory's.
        self.compute = np.array([_operations(i) / _peak(machines[r], i) for r, i in pairs])
        self.memory = np.array([_bytes(i) / bytes_per_s(machines[r]) for r, i in pairs])
        self.capacity = np.array([capacity(machines[r], situations[r].threads, _arithmetic(i)) for r, i in pairs])
        self.wake = np.array([s.threads * 1e-6 / s.machine.clusters[0].clock_mhz for s in situations])

    def times_ms(self, coefficients: Floats) -> Floats:
        """Milliseconds of each situation, one place of `coefficients` a key."""
        return self._sum(self._parts(coefficients).seconds) * 1e3

    def slopes(self, coefficients: Floats) -> Floats:
        """Derivatives of the logarithm of each time by each coefficient, (situations, coefficients)."""
        parts = self._parts(coefficients)
        bound = np.where(parts.compute >= parts.memory, parts.compute, 0.0) * self.count
        slopes = np.zeros((self.size, len(coefficients)))
        for places, change in (
            (self.shares, -bound),
            (self.serials[self.row], bound * parts.by_serial),
            (self.bandwidths[self.row], -np.where(parts.compute < parts.memory, parts.memory, 0.0) * self.count),
            (self.overheads[self.row], parts.overhead * self.count),
        ):
            for column in places.T:
                np.add.at(slopes, (self.row, column), change)
        return slopes / self._sum(parts.seconds)[:, None]

    def _parts(self, coefficients: Floats) -> _Parts:
        def together(places: NDArray[np.intp]) -> Floats:
            return np.asarray(np.exp(coefficients[places].sum(axis=1)))

        odds = together(self.serials)[self.row]
        serial = odds / (1 + odds)
        scaling = serial + (1 - serial) / self.capacity
        compute = self.compute / together(self.shares) * scaling
        memory = self.memory / together(self.bandwidths)[self.row]
        overhead = (together(self.overheads) * self.wake)[self.row]
        return _Parts(
            compute=compute,
            memory=memory,
            overhead=overhead,
            seconds=self.count * (np.maximum(compute, memory) + overhead),
            by_serial=serial * (1 - serial) * (1 - 1 / self.capacity) / scaling,
        )

    def _sum(self, seconds: Floats) -> Floats:
        return np.bincount(self.row, weights=seconds, minlength=self.size).astype(np.float64)


def _operations(operator: Operator) -> float:
    return float(2 * operator.macs if operator.kind in PRODUCTS else operator.activations)


def _arithmetic(operator: Operator) -> Precision:
    """What handles elements one by one has vectors of floats to work with, whatever it reads."""
    return operator.precision if operator.kind in PRODUCTS else "fp32"


def _peak(machine: MachineFigures, operator: Operator) -> float:
    return peak_per_s(machine.clusters[0], _arithmetic(operator))


def _bytes(operator: Operator) -> float:
    return float((operator.weights + operator.activations) * BYTES[operator.precision])
