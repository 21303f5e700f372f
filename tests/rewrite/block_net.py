"""A ViT by hand, whose blocks look as other rewrites leave them."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TOKENS, WIDTH, HEADS = 5, 8, 2
MICROSOFT = "com.microsoft"


class Net:
    """A ViT of two blocks as rewrites leave it: three products for q, k and v, the scale in their weights, keys
    transposed once, GELU by one operator, norms without gain. prefix: one constant token before four pixels.
    """

    def __init__(
        self, *, bias_by_position: bool = False, layer_scale: bool = False, odd_attention: bool = False
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}
        x = self.op("Reshape", "input", self.ints(1, TOKENS - 1, WIDTH))
        x = self.op("Concat", self.weight(1, 1, WIDTH), x, axis=1)
        for _ in range(2):
            x = self.block(x, bias_by_position, layer_scale, odd_attention)
        self.last = self.op("Gather", x, self.given(np.array(0)), axis=1)

    def block(self, x: str, bias_by_position: bool, layer_scale: bool, odd_attention: bool) -> str:
        normed = self.norm(x)
        q, k, v = (
            self.heads(self.linear(normed, WIDTH), order) for order in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        )
        scores = self.op("MatMul", q, k)
        if bias_by_position:
            scores = self.op("Add", scores, self.weight(1, HEADS, TOKENS, TOKENS))
        said = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        if odd_attention:
            said = self.op("Tanh", said)
        said = self.op("Reshape", self.op("Transpose", said, perm=[0, 2, 1, 3]), self.ints(1, TOKENS, WIDTH))
        said = self.linear(said, WIDTH)
        if layer_scale:
            said = self.op("Mul", self.weight(WIDTH), said)
        x = self.op("Add", said, x)
        hidden = self.op("QuickGelu", self.linear(self.norm(x), 2 * WIDTH), domain=MICROSOFT, alpha=1.702)
        return self.op("Add", x, self.linear(hidden, WIDTH))

    def norm(self, x: str) -> str:
        return self.op("LayerNormalization", x, self.given(np.ones(WIDTH, np.float32)), axis=-1)

    def linear(self, x: str, width: int) -> str:
        inner = 2 * WIDTH if "QuickGelu" in x else WIDTH
        return self.op("Add", self.op("MatMul", x, self.weight(inner, width)), self.weight(width))

    def heads(self, x: str, order: tuple[int, ...]) -> str:
        return self.op("Transpose", self.op("Reshape", x, self.ints(1, TOKENS, HEADS, WIDTH // HEADS)), perm=order)

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        return self.given(np.random.default_rng(len(self.constants)).normal(size=shape).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        return self.given(np.array(numbers, np.int64))

    def given(self, array: NDArray[np.generic]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def model(self) -> onnx.ModelProto:
        """Shapes behind onnx's unknown operators are given by the tests' rewrites; here every one is known."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, WIDTH, 2, 2])],
            [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [1, WIDTH])],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        for node in self.nodes:
            if node.op_type == "QuickGelu":
                shape = [1, TOKENS, 2 * WIDTH]
                graph.value_info.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, shape))
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
        return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))
