"""Rules: what TensorRT wants of a graph, each with where NVIDIA says so."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.errors import EdgevitError

_EXPLICIT = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html"
)
_GUIDE = "https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-861/developer-guide/index.html"
_PARSER = "https://github.com/onnx/onnx-tensorrt/blob/8.6-GA/builtin_op_importers.cpp"
_OPERATORS = "https://github.com/onnx/onnx-tensorrt/blob/8.6-GA/docs/operators.md"
_RESIDUAL = (
    "https://docs.nvidia.com/deeplearning/tensorrt/tensorflow-quantization-toolkit/docs/docs/add_custom_qdq_cases.html"
)
_PLACEMENT = f"{_EXPLICIT}#q-dq-layer-placement-recommendations"


@dataclass(frozen=True)
class Rule:
    """`message`: what TensorRT wants, in one line. `source`: where NVIDIA says so, or its parser's own source."""

    id: str
    message: str
    source: str


@dataclass(frozen=True)
class Violation:
    """A rule that a graph breaks. `node`: by name, '' for the graph itself. `detail`: what was found there."""

    rule: Rule
    node: str
    detail: str

    def __str__(self) -> str:
        place = f"'{self.node}' " if self.node else ""
        return f"TensorRT rule '{self.rule.id}': {place}{self.detail}; {self.rule.message} ({self.rule.source})"


class RuleError(EdgevitError):
    """A graph that TensorRT refuses, or builds otherwise than it is meant. `violations`: all of them, one at least."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        more = f" And {len(violations) - 1} more." if len(violations) > 1 else ""
        super().__init__(f"{violations[0]}.{more}")
        self.violations = violations


RULES = {
    rule.id: rule
    for rule in (
        Rule("domain", "operators must be ai.onnx's", _OPERATORS),
        Rule("opset", "the opset must be one that the parser reads", _OPERATORS),
        Rule("operator", "the parser's table must have the operator", _OPERATORS),
        Rule("static-shape", "every size must be known, since the engine is built without a shape profile", _GUIDE),
        Rule("integer-operator", "INT8 is expressed by QuantizeLinear and DequantizeLinear alone", _EXPLICIT),
        Rule("zero-point", "quantization must be symmetric, every zero point 0", _PARSER),
        Rule("signed", "quantized values must be signed INT8", _OPERATORS),
        Rule("scale", "scales must be constant, finite and positive", _PARSER),
        Rule("channel-axis", "a weight's scales must lie along its output channels, one each", _PARSER),
        Rule("per-channel", "weights must have one scale per output channel", _PLACEMENT),
        Rule("per-tensor", "activations must have one scale in all", _PARSER),
        Rule("pair", "a QuantizeLinear is followed by DequantizeLinear, which follows one or INT8 weights", _EXPLICIT),
        Rule("dedicated-pair", "each reader must have a Q/DQ pair of its own", _PLACEMENT),
        Rule("bias", "biases must stay in float", _EXPLICIT),
        Rule("weighted-inputs", "all inputs of a weighted operator are quantized, or none", _PLACEMENT),
        Rule("fusion", "no Q/DQ pair may part a weighted operator from its activation", _PLACEMENT),
        Rule("residual", "the inputs of a sum must both come from INT8, or none", _PLACEMENT),
        Rule("residual-skip", "what is added to an INT8 convolution must be quantized, to be fused with it", _RESIDUAL),
        Rule("normalization", "LayerNorm and softmax must read float", _PLACEMENT),
        Rule("half-range", "constants must be within float16's range", _GUIDE),
    )
}
