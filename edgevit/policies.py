"""Policies: the ways to build a model that usually win, tried by every export and where a search begins."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.errors import InputError
from edgevit.policy import ConvKind, Policy
from edgevit.quantize.nodes import PATCH_EMBEDDING_CONVS, QuantizableNodes
from edgevit.recipe import ExportSpec, RuntimeName

FP32, FP16, DYNAMIC, STATIC, MIXED = "fp32", "fp16", "int8-dynamic", "int8-static", "mixed"
# ONNX Runtime's INT8 depthwise convolutions are slower than float ones in FastViT-T8 (25 ms with them, 10.5 ms without,
# one thread, AVX-512 VNNI), and faster in MobileViT-S, where no layout change surrounds them: both are tried.
POINTWISE: tuple[ConvKind, ...] = ("pointwise",)
BF16 = frozenset({"avx512_bf16", "amx_bf16"})
# Sums between two convolutions in float cost what INT8 gains: MobileNetV4-conv-S 2.28 ms, with INT8 sums 1.67 ms. Its
# stem is faster in float (2.61 ms against 2.77), ResNet-50's of 7 x 7 pixels in INT8 (24.7 ms against 30.6): both are
# tried.
NO_STEM: tuple[ConvKind, ...] = ("pointwise", "dense", "depthwise")
# LiteRT has no INT8 kernel for depthwise convolutions of float activations.
UNSEPARATED: tuple[ConvKind, ...] = ("stem", "pointwise", "dense")


# Exact rewrites that pay, by interleaved measurement (DeiT-Ti, MobileViT-S, EfficientViT-M0; one thread, AVX-512) and
# by instructions counted on a Cortex-A76. 'attention' (MultiHeadAttention) costs 11 % more there, 'norm-affine' gains
# nothing, 'silu' hides what static INT8 quantizes. OpenVINO and TensorRT have their own forms of GELU and attention.
# LiteRT's tensors have their channels last: the rewrites that move them there save transposes.
FOR_ALL = ("layer-norm", "batch-norm", "class-token", "pooling", "heads", "layout")
FOR_CPUS = (*FOR_ALL, "gelu", "attention-split", "attention-scale", "positions", "channels-last")
PAYING_REWRITES: dict[RuntimeName, tuple[str, ...]] = {
    "onnxruntime": FOR_CPUS,
    "openvino": FOR_ALL,
    "litert": (*FOR_CPUS, "identity-conv", "pixel-attention"),
    "executorch": FOR_CPUS,
    "tensorrt": FOR_ALL,  # not measured: fewer operators, and nothing of ONNX Runtime's own
    "torchscript": (),
}

# Exact rewrites that pay where convolutions, linear layers and attention are all static INT8, and cost where one is in
# float: they give ONNX Runtime the layout and the operators whose INT8 kernels are its best. Million instructions on a
# Cortex-A76, signed activations, without and with them: EfficientViT-M0 24.9 and 20.4, MobileViT-S 433 and 392, DeiT-Ti
# 220 and 198.
INT8_REWRITES: dict[RuntimeName, tuple[str, ...]] = {
    "onnxruntime": ("identity-conv", "norm-affine", "pixel-attention", "instance-norm", "linear-conv", "wide-conv"),
    "openvino": (),
    "litert": (),
    "executorch": (),
    "tensorrt": (),
    "torchscript": (),
}


# They write operators of ONNX Runtime's own, which a converter to another runtime does not know, or takes apart.
OF_ONNX_RUNTIME = ("silu", "attention")


def exact_policy(runtime: RuntimeName) -> Policy:
    """fp32 by the exact rewrites that pay on the runtime."""
    return Policy(rewrites=PAYING_REWRITES[runtime], runtime=runtime)


def int8_session(runtime: RuntimeName, isa: Sequence[str]) -> dict[str, str]:
    """The runtime's entries for INT8 artifacts: OpenVINO computes what stays in float in bfloat16 where a processor has
    it (its own choice, and faster), which an fp32 artifact must not.
    """
    return {"INFERENCE_PRECISION_HINT": "bf16"} if runtime == "openvino" and BF16 & set(isa) else {}


def default_policies(
    nodes: QuantizableNodes, runtime: RuntimeName, spec: ExportSpec, model_name: str, isa: Sequence[str] = ()
) -> dict[str, Policy]:
    """By name: fp32 first, then what `spec.precision` asks for, as far as the model has such operators.

    isa: the device's. Raises InputError for a precision that the model or the runtime does not have.
    """
    if runtime == "openvino" and spec.precision in (DYNAMIC, MIXED):
        raise InputError(f"--runtime openvino runs fp32 and {STATIC}, not {spec.precision}. Leave --precision out.")
    session = int8_session(runtime, isa)
    calibrator = "minmax" if spec.calibrator == "auto" else spec.calibrator
    common = _changed(exact_policy(runtime), calibrator=calibrator, session=session)
    found = {FP32: exact_policy(runtime)}
    has_kinds = len(set(nodes.conv_kinds.values())) > 1
    if nodes.linear and runtime == "onnxruntime":  # OpenVINO has no fast MatMulInteger: 28 ms for DeiT-Ti's 13
        weights = {"conv": "int8-weights"} if nodes.conv else {}
        found[DYNAMIC] = _changed(common, linear="int8-dynamic", **weights)
    if nodes.linear or nodes.conv:
        static = {"linear": "int8-static"} if nodes.linear else {}
        found[STATIC] = _changed(common, conv="int8-static", **static)
        if has_kinds:
            found[f"{STATIC}-pointwise"] = _changed(found[STATIC], conv_kinds=POINTWISE)
    if nodes.linear and nodes.conv and runtime == "onnxruntime":
        found[MIXED] = _changed(common, linear="int8-dynamic", conv="int8-static")
        if has_kinds:
            found[f"{MIXED}-pointwise"] = _changed(found[MIXED], conv_kinds=POINTWISE)
    if nodes.linear and nodes.attention and runtime == "onnxruntime":
        wide = {"attention": "int8-static", "residual": "int8-static" if has_kinds else "fp32"}
        convs = NO_STEM if has_kinds else common.conv_kinds
        found[f"{MIXED}-attention"] = _changed(
            common, linear="int8-dynamic", conv="int8-static" if nodes.conv else "fp32", conv_kinds=convs, **wide
        )
        found[f"{STATIC}-attention"] = _changed(
            found[STATIC], rewrites=(*common.rewrites, *INT8_REWRITES[runtime]), **wide
        )
    elif nodes.residual and has_kinds and runtime == "onnxruntime":
        found[f"{STATIC}-residual"] = _changed(found[STATIC], conv_kinds=NO_STEM, residual="int8-static")
        found[f"{STATIC}-residual-stem"] = _changed(found[STATIC], residual="int8-static")
    return _wanted(found, spec, model_name)


def _wanted(found: dict[str, Policy], spec: ExportSpec, model_name: str) -> dict[str, Policy]:
    """Those that `spec.precision` asks for. Raises InputError when there is none."""
    if spec.precision == "auto":
        return found
    wanted = {name: policy for name, policy in found.items() if policy.precision in (FP32, spec.precision)}
    if not any(policy.precision == spec.precision for policy in wanted.values()):
        if spec.precision == MIXED:
            raise InputError(f"'{model_name}' has nothing that {found[FP32].runtime} gains by mixing. Take another.")
        kinds = "linear layers" if spec.precision == DYNAMIC else "linear layers or convolutions"
        raise InputError(f"'{model_name}' has no {kinds} for --precision {spec.precision}. Take another.")
    return wanted


def litert_policies(nodes: QuantizableNodes, spec: ExportSpec, model_name: str) -> dict[str, Policy]:
    """What default_policies gives, for LiteRT. nodes: of the .tflite file.

    Attention's products stay in float: XNNPACK has no INT8 product of two activations (DeiT-Ti 74 ms with them in INT8,
    19 ms without). Int16 activations are left to a policy of one's own: their kernels are not optimized (940 ms).
    Convolutions hand INT8 on by way of their sums; a transformer's sums lie between LayerNorms, and in INT8 they cost
    accuracy and gain nothing. (All on one thread of an AVX-512 VNNI, LiteRT 2.3.)
    Source: 16x8 has no optimized kernels, https://github.com/tensorflow/tensorflow/pull/40282.
    """
    common = _changed(exact_policy("litert"), calibrator="minmax" if spec.calibrator == "auto" else spec.calibrator)
    found = {FP32: exact_policy("litert")}
    if not nodes.linear and not nodes.conv:
        return _wanted(found, spec, model_name)
    has_stages = len(nodes.conv) > PATCH_EMBEDDING_CONVS
    static: dict[str, object] = {"conv": "int8-static", "residual": "int8-static" if has_stages else "fp32"}
    found[DYNAMIC] = _changed(common, linear="int8-dynamic", conv="int8-dynamic", conv_kinds=UNSEPARATED)
    found[STATIC] = _changed(common, linear="int8-static", **static)
    if has_stages:
        found[f"{DYNAMIC}-pointwise"] = _changed(found[DYNAMIC], conv_kinds=POINTWISE)
        found[MIXED] = _changed(common, linear="int8-dynamic", **static)
        found[f"{MIXED}-pointwise"] = _changed(found[MIXED], conv_kinds=POINTWISE)
    return _wanted(found, spec, model_name)


def executorch_policies(nodes: QuantizableNodes, spec: ExportSpec, model_name: str) -> dict[str, Policy]:
    """What default_policies gives, for ExecuTorch. nodes: of the ONNX graph that is lowered.

    As in Arm's published DeiT-Ti, a transformer's patch embedding stays in fp32; its card leaves open whether its sums
    do too, and here they do. Attention's products have no INT8 in XNNPACK.
    Source: https://huggingface.co/Arm/deit-tiny-int8-xnnpack-executorch.
    """
    common = _changed(exact_policy("executorch"), calibrator="minmax" if spec.calibrator == "auto" else spec.calibrator)
    found = {FP32: exact_policy("executorch")}
    if not nodes.linear and not nodes.conv:
        return _wanted(found, spec, model_name)
    has_stages = len(nodes.conv) > PATCH_EMBEDDING_CONVS
    static: dict[str, object] = {"conv": "int8-static", "residual": "int8-static"} if has_stages else {}
    if nodes.linear:
        found[DYNAMIC] = _changed(common, linear="int8-dynamic")
    found[STATIC] = _changed(common, linear="int8-static", **static)
    if has_stages and nodes.linear:
        found[MIXED] = _changed(common, linear="int8-dynamic", **static)
    return _wanted(found, spec, model_name)


def _changed(policy: Policy, **fields: object) -> Policy:
    return Policy.model_validate({**policy.model_dump(), **fields})
