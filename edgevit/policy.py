"""Policy: one way to turn an exported graph into an artifact. What a search chooses among; frozen and validated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from edgevit.recipe import Calibrator, RuntimeName
from edgevit.schema import Record

LinearPrecision = Literal["fp32", "int8-dynamic", "int8-static"]
ConvPrecision = Literal["fp32", "int8-weights", "int8-dynamic", "int8-static"]
AttentionPrecision = Literal["fp32", "int8-static"]
ResidualPrecision = Literal["fp32", "int8-static"]
ConvKind = Literal["stem", "pointwise", "dense", "depthwise"]
InputType = Literal["float32", "uint8"]
FloatType = Literal["fp32", "fp16"]
Activations = Literal["int8", "int16"]
TokenMethod = Literal["prune", "fuse", "merge"]
Kind = Literal["transformer", "hybrid", "cnn"]

# In the name of a convolution that the rewrite 'linear-conv' made of a linear layer: it still counts as one.
LINEAR_CONV = "_linear_conv"
# In the name of a part of a layer norm that the rewrite 'norm-parts' wrote out; float16 cannot hold its squares.
NORM_PART = "_norm_part"


class TokenReduction(Record):
    """`removed[i]`: tokens fewer after block i's attention; blocks beyond its end remove none.

    method: 'prune' drops the patches that the class token attends to least; 'fuse' drops them too, and keeps their
    attention-weighted mean as one more token (EViT); 'merge' averages the most similar pairs (ToMe).
    """

    method: TokenMethod
    removed: tuple[NonNegativeInt, ...]


class Policy(Record):
    """The graph's own form, the precision of each kind of operator, and how the runtime is configured.

    image_size None: the model's own. `rewrites`: names from edgevit.rewrite.REWRITES, in any order. linear, conv: of
    operators with constant weights; attention: of products of two activations; residual: of their sums, and of what
    hands activations on. conv_kinds: which convolutions `conv` is about, the others stay in float. `float_nodes`: names
    of nodes that do whatever their kind. `float_type`: what the runtime may compute float operators in. activations: of
    static INT8; int16 and convolutions that are int8-dynamic are for LiteRT. smooth_alpha None: without SmoothQuant.
    `session`: the runtime's own entries. threads None: the device's.
    """

    image_size: PositiveInt | None = None
    rewrites: tuple[str, ...] = ()
    tokens: TokenReduction | None = None
    input_type: InputType = "float32"
    linear: LinearPrecision = "fp32"
    conv: ConvPrecision = "fp32"
    conv_kinds: tuple[ConvKind, ...] = ("stem", "pointwise", "dense", "depthwise")
    attention: AttentionPrecision = "fp32"
    residual: ResidualPrecision = "fp32"
    float_nodes: tuple[str, ...] = ()
    float_type: FloatType = "fp32"
    calibrator: Calibrator = "minmax"
    activations: Activations = "int8"
    smooth_alpha: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    equalize: bool = False
    correct_bias: bool = False
    runtime: RuntimeName = "onnxruntime"
    session: dict[str, str] = {}
    threads: PositiveInt | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Policy:
        if self.runtime != "litert" and (self.conv == "int8-dynamic" or self.activations == "int16"):
            raise ValueError("dynamic INT8 convolutions and int16 activations are for the runtime litert")
        return self

    @property
    def precision(self) -> str:
        """The name that commands and tables give it: fp32, fp16, int8-dynamic, int8-static or mixed."""
        kinds = {self.linear, self.conv, self.attention, self.residual}
        is_static, is_dynamic = "int8-static" in kinds, "int8-dynamic" in kinds
        if is_static and is_dynamic:
            return "mixed"
        if is_static:
            return "int8-static"
        return "int8-dynamic" if is_dynamic or self.conv == "int8-weights" else self.float_type

    @property
    def needs_calibration(self) -> bool:
        kinds = (self.linear, self.conv, self.attention, self.residual)
        return "int8-static" in kinds or self.smooth_alpha is not None or self.correct_bias
