"""Predict: the latency of a bundle on a board, from rows that others and the user measured."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from edgevit.bundle import Bundle
from edgevit.device import Device
from edgevit.errors import EdgevitError, InputError, MissingExtraError
from edgevit.latency.coefficients import library_of
from edgevit.latency.fit import Fit, Observation, fit
from edgevit.latency.machine import figures_of
from edgevit.latency.own import OwnRow, read_own
from edgevit.latency.published import load_published, situation_of
from edgevit.latency.roofline import Situation
from edgevit.results import LatencyPrediction

OWN_WEIGHT = 4.0  # rows of edgevit's own measuring: its conditions are known, and it is the user's own board
NORMAL_90 = 1.645  # deviations on either side that hold 90 % of a normal distribution
GRAPH_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Predictor:
    """`published`, `own`: what it was fitted to. The first are those that come with edgevit, a few its own."""

    fit: Fit
    published: tuple[Observation, ...]
    own: tuple[Observation, ...]

    def predict(self, situation: Situation) -> LatencyPrediction:
        """Raises InputError for a runtime that is not known."""
        median, deviation = self.fit.predict(situation)
        factor = math.exp(NORMAL_90 * deviation)
        return LatencyPrediction(
            device=situation.board,
            runtime=situation.runtime,
            threads=situation.threads,
            median_milliseconds=median,
            interval90_milliseconds=(median / factor, median * factor),
            basis=self._basis(situation),
        )

    def _basis(self, situation: Situation) -> str:
        library, core = library_of(situation.runtime), situation.machine.core
        rows = (*self.published, *self.own)
        beside = sum(_is_alike(item.situation, library, core) for item in rows)
        own = f" and {len(self.own)} of your own" if self.own else ""
        near = f"{beside} of {library} on {core}" if beside else f"none of {library} on {core}"
        return f"calibrated on {len(self.published)} rows that come with edgevit{own}, {near}"


def predict_bundle(bundle: Bundle, device: Device) -> LatencyPrediction:
    """On the device, with its profile's threads.

    Raises InputError where it cannot be said (not on the CPU, or not an ONNX graph), BadFileError for calibration that
    cannot be read.
    """
    return load_predictor(read_own()).predict(bundle_situation(bundle, device, device.threads))


def prediction_or_reason(bundle: Bundle, device: Device) -> tuple[LatencyPrediction | None, str]:
    """The prediction and '', or None and a sentence on why there is none."""
    try:
        return predict_bundle(bundle, device), ""
    except EdgevitError as error:
        return None, f"No latency was predicted: {error}"


def bundle_situation(bundle: Bundle, device: Device, threads: int) -> Situation:
    """What a bundle does on a device. Raises as predict_bundle does."""
    runtime, model = bundle.manifest.runtime.name, bundle.manifest.model
    library_of(runtime)
    if bundle.entry.suffix != GRAPH_SUFFIX:
        raise InputError(f"{bundle.entry}: the operators of an ONNX graph can be counted, and this is none.")
    try:
        import onnx

        from edgevit.cost.armgraph import graph_on_arm
        from edgevit.latency.graph import operators_of
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "onnx", "export") from None
    operators = operators_of(graph_on_arm(onnx.load(bundle.entry)))
    name = f"{model.name}@{model.input_shape[-1]}"
    return Situation(name, operators, figures_of(device), device.name, runtime, threads)


@functools.lru_cache(maxsize=2)
def load_predictor(own: tuple[OwnRow, ...]) -> Predictor:
    """Fitted to the published rows that calibrate, and to the user's. Raises BadFileError."""
    return predictor_of(published_rows("calibrates"), own)


def predictor_of(published: Iterable[Observation], own: Iterable[OwnRow]) -> Predictor:
    published = tuple(published)
    mine = tuple(Observation(row.situation, row.p50_ms, OWN_WEIGHT) for row in own)
    return Predictor(fit([*published, *mine]), published, mine)


def published_rows(use: str) -> tuple[Observation, ...]:
    """Those that come with edgevit and either calibrate or test."""
    return tuple(
        Observation(situation_of(table, row), row.ms)
        for table in load_published()
        for row in table.rows
        if row.use == use
    )


def _is_alike(situation: Situation, library: str, core: str) -> bool:
    return library_of(situation.runtime) == library and situation.machine.core == core
