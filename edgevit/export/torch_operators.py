"""Torch operators: what each operator of ONNX is in torch, for graphs whose shapes are fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch.nn import functional as F

from edgevit.errors import EdgevitError
from edgevit.export.linear_layers import DOMAIN, LINEAR
from edgevit.export.torch_indexing import Attributes, Operands, as_tensor, at, gather, slices, top_k, whole

TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
}


def _conv(operands: Operands, attributes: Attributes) -> torch.Tensor:
    pixels, weight = operands[:2]
    rank = weight.dim() - 2
    pads = attributes.get("pads", [0] * 2 * rank)
    begin, end = list(pads[:rank]), list(pads[rank:])
    if begin != end:
        pixels = F.pad(pixels, [side for pair in reversed(list(zip(begin, end, strict=True))) for side in pair])
        begin = [0] * rank
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    groups = attributes.get("group", 1)
    function = {1: F.conv1d, 2: F.conv2d}[rank]
    return function(pixels, weight, at(operands, 2), list(strides), begin, list(dilations), groups)


def _gemm(operands: Operands, attributes: Attributes) -> torch.Tensor:
    left = operands[0].t() if attributes.get("transA") else operands[0]
    right = operands[1] if attributes.get("transB") else operands[1].t()
    bias = at(operands, 2)
    scale, share = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    right = right if scale == 1 else scale * right
    bias = bias if bias is None or share == 1 else share * bias
    if bias is not None and bias.dim() > 1:
        product: torch.Tensor = torch.matmul(left, right.t()) + bias
        return product
    return F.linear(left, right, bias)


def _reshape(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source, shape = operands[0], whole(operands[1])
    if not attributes.get("allowzero"):
        shape = [source.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    reshaped: torch.Tensor = source.reshape(shape)
    return reshaped


def _arg_max(operands: Operands, attributes: Attributes) -> torch.Tensor:
    return torch.argmax(operands[0], dim=attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1)))


def _split(operands: Operands, attributes: Attributes) -> tuple[torch.Tensor, ...]:
    source, axis = operands[0], attributes.get("axis", 0)
    if at(operands, 1) is not None:
        sizes: Any = whole(operands[1])
    else:
        sizes = -(-source.shape[axis] // attributes["outputs"])
    return torch.split(source, sizes, dim=axis)


def _reduce(function: Callable[..., torch.Tensor]) -> Callable[[Operands, Attributes], torch.Tensor]:
    def reduce(operands: Operands, attributes: Attributes) -> torch.Tensor:
        source, axes = operands[0], at(operands, 1)
        chosen = attributes.get("axes") if axes is None else whole(axes)
        dims = list(chosen) if chosen is not None else list(range(source.dim()))
        return function(source, dim=dims, keepdim=bool(attributes.get("keepdims", 1)))

    return reduce


def _layer_norm(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source, axis = operands[0], attributes.get("axis", -1)
    shape = source.shape[axis:] if axis < 0 else source.shape[axis % source.dim() :]
    return F.layer_norm(source, list(shape), operands[1], at(operands, 2), attributes.get("epsilon", 1e-5))


def _instance_norm(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source, gain, bias = operands
    dims = list(range(2, source.dim()))
    shape = [1, -1, *[1] * len(dims)]
    centered = source - source.mean(dim=dims, keepdim=True)
    variance = (centered * centered).mean(dim=dims, keepdim=True)
    normalized = centered * torch.rsqrt(variance + attributes.get("epsilon", 1e-5))
    result: torch.Tensor = normalized * gain.reshape(shape) + bias.reshape(shape)
    return result


def _batch_norm(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source, gain, bias, mean, variance = operands
    return F.batch_norm(source, mean, variance, gain, bias, eps=attributes.get("epsilon", 1e-5))


def _pool(function: Callable[..., torch.Tensor]) -> Callable[[Operands, Attributes], torch.Tensor]:
    def pool(operands: Operands, attributes: Attributes) -> torch.Tensor:
        kernel, pads = list(attributes["kernel_shape"]), list(attributes.get("pads", [0, 0, 0, 0]))
        if pads[:2] != pads[2:]:
            raise EdgevitError("A pooling that pads one side more than the other is not known to LiteRT's export.")
        options: Attributes = {"stride": list(attributes.get("strides", [1, 1])), "padding": pads[:2]}
        if function is F.avg_pool2d:
            options["count_include_pad"] = bool(attributes.get("count_include_pad", 0))
        return function(operands[0], kernel, ceil_mode=bool(attributes.get("ceil_mode", 0)), **options)

    return pool


def _pad(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source, pads, value = operands[0], whole(operands[1]), at(operands, 2)
    rank = source.dim()
    axes = list(range(rank)) if at(operands, 3) is None else [axis % rank for axis in whole(operands[3])]
    both = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    widths = [side for axis in reversed(range(rank)) for side in both.get(axis, (0, 0))]
    mode = attributes.get("mode", b"constant").decode()
    if mode != "constant":
        first = next((axis for axis in range(rank) if any(both.get(axis, (0, 0)))), rank)
        return F.pad(source, widths[: 2 * (rank - first)], mode={"edge": "replicate"}.get(mode, mode))
    return F.pad(source, widths, value=0.0 if value is None else float(value.reshape(-1)[0]))


def _clip(operands: Operands, attributes: Attributes) -> torch.Tensor:
    limits = [None if limit is None else float(limit.reshape(-1)[0]) for limit in (at(operands, 1), at(operands, 2))]
    return torch.clamp(operands[0], *limits)


def _gelu(operands: Operands, attributes: Attributes) -> torch.Tensor:
    return F.gelu(operands[0], approximate=attributes.get("approximate", b"none").decode())


def _fast_gelu(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source, bias = operands[0], at(operands, 1)
    return F.gelu(source if bias is None else source + bias, approximate="tanh")


def _squeeze(operands: Operands, attributes: Attributes) -> torch.Tensor:
    axes = at(operands, 1)
    return torch.squeeze(operands[0]) if axes is None else torch.squeeze(operands[0], whole(axes))


def _unsqueeze(operands: Operands, attributes: Attributes) -> torch.Tensor:
    result, axes = operands[0], whole(operands[1])
    rank = result.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        result = result.unsqueeze(axis)
    tensor: torch.Tensor = result
    return tensor


def _expand(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source: torch.Tensor = operands[0]
    return source * torch.ones(whole(operands[1]), dtype=source.dtype)


def _depth_to_space(operands: Operands, attributes: Attributes) -> torch.Tensor:
    """(N, C·b², H, W) to (N, C, H·b, W·b); DCR has the block's axes before the channels, CRD behind them."""
    source, block = operands[0], attributes["blocksize"]
    n, c, h, w = source.shape
    c //= block**2
    if attributes.get("mode", b"DCR") == b"CRD":
        moved = source.reshape(n, c, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        moved = source.reshape(n, block, block, c, h, w).permute(0, 3, 4, 1, 5, 2)
    pixels: torch.Tensor = moved.reshape(n, c, h * block, w * block)
    return pixels


def _hard_sigmoid(operands: Operands, attributes: Attributes) -> torch.Tensor:
    return torch.clamp(attributes.get("alpha", 0.2) * operands[0] + attributes.get("beta", 0.5), 0, 1)


def _plain(function: Callable[..., torch.Tensor]) -> Callable[[Operands, Attributes], torch.Tensor]:
    """A function of the operands alone."""
    return lambda operands, attributes: function(*operands)


OPERATORS: dict[tuple[str, str], Callable[[Operands, Attributes], Any]] = {
    ("", "Add"): _plain(torch.add),
    ("", "ArgMax"): _arg_max,
    ("", "AveragePool"): _pool(F.avg_pool2d),
    ("", "BatchNormalization"): _batch_norm,
    ("", "Cast"): lambda operands, attributes: operands[0].to(TYPES[attributes["to"]]),
    ("", "Clip"): _clip,
    ("", "Concat"): lambda operands, attributes: torch.cat(
        [as_tensor(each) for each in operands], dim=attributes["axis"]
    ),
    ("", "Conv"): _conv,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "Div"): _plain(torch.div),
    ("", "Equal"): lambda operands, attributes: torch.eq(as_tensor(operands[0]), as_tensor(operands[1])),
    ("", "Erf"): _plain(torch.erf),
    ("", "Exp"): _plain(torch.exp),
    ("", "Expand"): _expand,
    ("", "Flatten"): lambda operands, attributes: operands[0].flatten(attributes.get("axis", 1)),
    ("", "Gather"): gather,
    ("", "Gelu"): _gelu,
    ("com.microsoft", "FastGelu"): _fast_gelu,
    ("com.microsoft", "Gelu"): _gelu,
    ("com.microsoft", "QuickGelu"): lambda operands, attributes: (
        operands[0] * torch.sigmoid(attributes.get("alpha", 1.702) * operands[0])
    ),
    ("", "Gemm"): _gemm,
    ("", "GlobalAveragePool"): lambda operands, attributes: operands[0].mean(dim=[2, 3], keepdim=True),
    ("", "HardSigmoid"): _hard_sigmoid,
    ("", "HardSwish"): _plain(F.hardswish),
    ("", "Identity"): lambda operands, attributes: operands[0],
    ("", "InstanceNormalization"): _instance_norm,
    ("", "LayerNormalization"): _layer_norm,
    (DOMAIN, LINEAR): _plain(F.linear),
    ("", "LeakyRelu"): lambda operands, attributes: F.leaky_relu(operands[0], attributes.get("alpha", 0.01)),
    ("", "Log"): _plain(torch.log),
    ("", "LpNormalization"): lambda operands, attributes: F.normalize(
        operands[0], attributes.get("p", 2), attributes.get("axis", -1)
    ),
    ("", "MatMul"): _plain(torch.matmul),
    ("", "Max"): _plain(torch.maximum),
    ("", "MaxPool"): _pool(F.max_pool2d),
    ("", "Mul"): _plain(torch.mul),
    ("", "Neg"): _plain(torch.neg),
    ("", "Pad"): _pad,
    ("", "Pow"): _plain(torch.pow),
    ("", "Reciprocal"): _plain(torch.reciprocal),
    ("", "ReduceMean"): _reduce(torch.mean),
    ("", "ReduceMax"): _reduce(torch.amax),
    ("", "ReduceSum"): _reduce(torch.sum),
    ("", "Relu"): _plain(F.relu),
    ("", "Reshape"): _reshape,
    ("", "Sigmoid"): _plain(torch.sigmoid),
    ("", "Slice"): slices,
    ("", "Softmax"): lambda operands, attributes: F.softmax(operands[0], dim=attributes.get("axis", -1)),
    ("", "Split"): _split,
    ("", "Sqrt"): _plain(torch.sqrt),
    ("", "Squeeze"): _squeeze,
    ("", "Sub"): _plain(torch.sub),
    ("", "Tanh"): _plain(torch.tanh),
    ("", "TopK"): top_k,
    ("", "Transpose"): lambda operands, attributes: operands[0].permute(list(attributes["perm"])),
    ("", "Unsqueeze"): _unsqueeze,
}
