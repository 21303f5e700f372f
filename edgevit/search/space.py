"""SearchSpace: which policies a search chooses among, as few dimensions with few values each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from edgevit.policy import (
    AttentionPrecision,
    ConvKind,
    ConvPrecision,
    InputType,
    LinearPrecision,
    Policy,
    ResidualPrecision,
    TokenMethod,
    TokenReduction,
)
from edgevit.recipe import Calibrator, RuntimeName
from edgevit.schema import Record

Choice = str | int | float | bool | None
Parameters = Mapping[str, Choice]
# (blocks, tokens, share kept, first block) -> tokens fewer after each block.
Schedule = Callable[[int, int, float, int], tuple[int, ...]]
ALL_TOKENS = 1.0
DEFAULT = "default"
# Their INT8 is made of a file, not of the graph: nothing is smoothed, equalized or corrected in it beforehand.
QUANTIZED_AS_FILES = frozenset({"litert"})
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class TokenSpace(Record):
    """`tokens`: by image size, how many may go: the patches. `kept`: shares, largest first. `starts`: first blocks."""

    methods: Annotated[tuple[TokenMethod, ...], Field(min_length=1)]
    blocks: PositiveInt
    tokens: dict[int, PositiveInt]
    kept: tuple[Share, ...] = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    starts: tuple[int, ...] = (0,)


class SearchSpace(Record):
    """The first of several values is the plain one: all first values together are fp32 as the model came.

    image_sizes: the model's own first. `rewrites`: exact ones, in every policy of a runtime; int8_rewrites: more of
    them, for static INT8 alone, all or none. left_out, added: exact rewrites of which one may be left out, and one put
    to them. lacking: of the further ones, those that a runtime has no operators for. approximations: at most one
    rewrite of each group ({'gelu': ('gelu-tanh', 'gelu-sigmoid')}). sensitive_nodes: in the order in which they are
    better left in float; the search decides how many of them are. `sessions`: of each runtime, named sets of its
    entries; a runtime that has no set of some name takes its first.
    """

    image_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    runtimes: Annotated[tuple[RuntimeName, ...], Field(min_length=1)] = ("onnxruntime",)
    rewrites: dict[RuntimeName, tuple[str, ...]] = {}
    int8_rewrites: dict[RuntimeName, tuple[str, ...]] = {}
    left_out: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    lacking: dict[RuntimeName, tuple[str, ...]] = {}
    approximations: dict[str, tuple[str, ...]] = {}
    tokens: TokenSpace | None = None
    input_types: Annotated[tuple[InputType, ...], Field(min_length=1)] = ("float32",)
    linear: Annotated[tuple[LinearPrecision, ...], Field(min_length=1)] = ("fp32",)
    conv: Annotated[tuple[ConvPrecision, ...], Field(min_length=1)] = ("fp32",)
    conv_kinds: Annotated[tuple[tuple[ConvKind, ...], ...], Field(min_length=1)] = (Policy().conv_kinds,)
    attention: Annotated[tuple[AttentionPrecision, ...], Field(min_length=1)] = ("fp32",)
    residual: Annotated[tuple[ResidualPrecision, ...], Field(min_length=1)] = ("fp32",)
    sensitive_nodes: tuple[str, ...] = ()
    calibrators: Annotated[tuple[Calibrator, ...], Field(min_length=1)] = ("minmax",)
    smooth_alphas: Annotated[tuple[float | None, ...], Field(min_length=1)] = (None,)
    equalize: Annotated[tuple[bool, ...], Field(min_length=1)] = (False,)
    correct_bias: Annotated[tuple[bool, ...], Field(min_length=1)] = (False,)
    sessions: dict[RuntimeName, dict[str, dict[str, str]]] = {}
    threads: Annotated[tuple[PositiveInt | None, ...], Field(min_length=1)] = (None,)

    @model_validator(mode="after")
    def _knows_every_token_count(self) -> SearchSpace:
        missing = [size for size in self.image_sizes if self.tokens and size not in self.tokens.tokens]
        if missing:
            raise ValueError(f"tokens: how many there are at {missing[0]} px is not said")
        return self


class Dimension(NamedTuple):
    """is_ordered: neighbouring choices are alike."""

    name: str
    choices: tuple[Choice, ...]
    is_ordered: bool = False


def dimensions(space: SearchSpace) -> tuple[Dimension, ...]:
    """What there is to choose: the dimensions with more than one value."""
    return tuple(dimension for dimension in every_dimension(space) if len(dimension.choices) > 1)


def every_dimension(space: SearchSpace) -> tuple[Dimension, ...]:
    """Those with one value, too."""
    tokens = space.tokens
    return (
        Dimension("image_size", space.image_sizes, True),
        Dimension("runtime", space.runtimes),
        Dimension("int8_rewrites", (False, True) if any(space.int8_rewrites.values()) else (False,)),
        Dimension("left_out", (None, *space.left_out)),
        Dimension("added", (None, *space.added)),
        *(Dimension(group, (None, *names)) for group, names in space.approximations.items()),
        Dimension("kept", (ALL_TOKENS, *tokens.kept) if tokens else (ALL_TOKENS,), True),
        Dimension("start", tokens.starts if tokens else (0,), True),
        Dimension("token_method", tokens.methods if tokens else (None,)),
        Dimension("input_type", space.input_types),
        Dimension("linear", space.linear),
        Dimension("conv", space.conv),
        Dimension("conv_kinds", tuple("+".join(kinds) for kinds in space.conv_kinds)),
        Dimension("attention", space.attention),
        Dimension("residual", space.residual),
        Dimension("float_nodes", _doubling(len(space.sensitive_nodes)), True),
        Dimension("calibrator", space.calibrators),
        Dimension("smooth_alpha", space.smooth_alphas, True),
        Dimension("equalize", space.equalize),
        Dimension("correct_bias", space.correct_bias),
        Dimension("session", _session_names(space)),
        Dimension("threads", space.threads, True),
    )


def policy_of(parameters: Parameters, space: SearchSpace, schedule: Schedule) -> Policy:
    """The policy that `parameters` stand for; a dimension that is not named has its plain value.

    What has no effect beside the other parameters is left at the Policy's default, so that equal policies are equal.
    """
    chosen = {name: choices[0] for name, choices, _ in every_dimension(space)} | dict(parameters)
    size = chosen["image_size"]
    runtime: RuntimeName = chosen["runtime"]  # type: ignore[assignment]
    kinds = _with_kernels(runtime, {kind: chosen[kind] for kind in ("linear", "conv", "attention", "residual")})
    is_prepared = runtime not in QUANTIZED_AS_FILES
    is_int8 = any(precision != "fp32" for precision in kinds.values())
    is_static = "int8-static" in kinds.values()
    more = (chosen["added"], *(chosen[group] for group in space.approximations))
    more = tuple(name for name in more if name and name not in space.lacking.get(runtime, ()))
    exact = (name for name in space.rewrites.get(runtime, ()) if name != chosen["left_out"])
    further = space.int8_rewrites.get(runtime, ()) if is_static and chosen["int8_rewrites"] else ()
    fields: dict[str, Any] = {
        **kinds,
        "image_size": None if size == space.image_sizes[0] else size,
        "threads": chosen["threads"],
        "runtime": runtime,
        "rewrites": tuple(dict.fromkeys((*exact, *further, *more))),
        "tokens": _reduction(chosen, space, schedule),
        "input_type": chosen["input_type"],
        "session": _session(space, runtime, str(chosen["session"])),
    }
    if is_int8:
        fields["float_nodes"] = space.sensitive_nodes[: int(chosen["float_nodes"] or 0)]
    if is_int8 and is_prepared:
        fields["correct_bias"] = chosen["correct_bias"]
    if kinds["linear"] != "fp32" and is_prepared:
        fields["smooth_alpha"] = chosen["smooth_alpha"]
    if kinds["conv"] != "fp32":
        chosen_kinds = str(chosen["conv_kinds"]).split("+")
        is_dynamic = kinds["conv"] == "int8-dynamic"
        fields["conv_kinds"] = [kind for kind in chosen_kinds if not (is_dynamic and kind == "depthwise")]
    if kinds["conv"] == "int8-static" and is_prepared:  # stored weights have a scale for each channel as it is
        fields["equalize"] = chosen["equalize"]
    if is_static:
        fields["calibrator"] = chosen["calibrator"]
    return Policy.model_validate(fields)


def _with_kernels(runtime: RuntimeName, kinds: dict[str, Choice]) -> dict[str, Choice]:
    """OpenVINO has no fast kernel for ONNX's dynamic INT8 products, and folds stored weights by itself.

    LiteRT has none for INT8 products of two activations, has one for dynamic convolutions, where others only store
    their weights, and its INT8 sums pay between INT8 convolutions alone (see policies.litert_policies).
    """
    if runtime == "openvino":
        replaced = {"int8-dynamic": "int8-static", "int8-weights": "fp32"}
        return {kind: replaced.get(str(precision), precision) for kind, precision in kinds.items()}
    if runtime == "litert":
        conv = "int8-dynamic" if kinds["conv"] == "int8-weights" else kinds["conv"]
        residual = kinds["residual"] if conv == "int8-static" else "fp32"
        return {**kinds, "conv": conv, "attention": "fp32", "residual": residual}
    return kinds


def _session_names(space: SearchSpace) -> tuple[str, ...]:
    names = dict.fromkeys(name for runtime in space.runtimes for name in space.sessions.get(runtime, {}))
    return tuple(names) or (DEFAULT,)


def _session(space: SearchSpace, runtime: RuntimeName, name: str) -> dict[str, str]:
    sets = space.sessions.get(runtime, {DEFAULT: {}})
    return sets.get(name, next(iter(sets.values())))


def _doubling(most: int) -> tuple[int, ...]:
    """0, 1, 2, 4, … up to `most`, which is the last."""
    counts = [0]
    while counts[-1] < most:
        counts.append(min(most, 2 * counts[-1] or 1))
    return tuple(counts)


def _reduction(chosen: Parameters, space: SearchSpace, schedule: Schedule) -> TokenReduction | None:
    kept, size = chosen["kept"], chosen["image_size"]
    if space.tokens is None or kept == ALL_TOKENS:
        return None
    blocks, tokens = space.tokens.blocks, space.tokens.tokens
    removed = schedule(blocks, tokens[int(size or 0)], float(kept or 0), int(chosen["start"] or 0))
    if not any(removed):
        return None
    return TokenReduction.model_validate({"method": chosen["token_method"], "removed": removed})
