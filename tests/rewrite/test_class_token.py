from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_models import (
    DEIT_SHAPE,
    VIT_SHAPE,
    VIT_TOKENS,
    deit_graph,
    is_sorted,
    mean_pool_vit_graph,
    mobilevit_graph,
    op_types,
    random_pixels,
    run_graph,
    vit_graph,
)

from edgevit.export.onnx import checked
from edgevit.rewrite import apply_rewrites
from edgevit.rewrite.class_token import compute_last_block_for_class_token

WIDTH = 4
TOKENS = 5

STEPS = (
    "relu", "erf", "bias", "bias of one", "linear", "norm", "softmax", "residual", "square", "gate", "position",
    "heads", "attention", "glu", "mix tokens", "softmax over tokens", "reversed axes", "merge and part tokens",
)  # fmt: skip


@dataclass
class Net:
    """A graph that grows one node at a time; `seen` are its values of shape (B, TOKENS, WIDTH)."""

    batch: int | str = 1
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=lambda: ["input"])

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"{kind}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names[0]

    def constant(self, *shape: int) -> str:
        return self.given(np.random.default_rng(len(self.constants)).normal(size=shape).astype(np.float32))

    def given(self, array: NDArray[np.generic]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def numbers(self, *values: int) -> str:
        return self.given(np.array(values, np.int64))

    def step(self, kind: str, earlier: int = 0) -> str:
        """One more value of shape (B, TOKENS, WIDTH), made of the last one."""
        x = self.seen[-1]
        batch = -1 if isinstance(self.batch, str) else self.batch
        match kind:
            case "relu":
                x = self.op("Relu", x)
            case "erf":
                x = self.op("Erf", x)
            case "bias":
                x = self.op("Add", self.constant(WIDTH), x)
            case "bias of one":
                x = self.op("Sub", x, self.constant(1, 1, 1))
            case "linear":
                x = self.op("MatMul", x, self.constant(WIDTH, WIDTH))
            case "norm":
                x = self.op("LayerNormalization", x, self.constant(WIDTH), self.constant(WIDTH), axis=-1)
            case "softmax":
                x = self.op("Softmax", x, axis=-1)
            case "softmax over tokens":
                x = self.op("Softmax", x, axis=1)
            case "residual":
                x = self.op("Add", x, self.seen[earlier % len(self.seen)])
            case "square":
                x = self.op("Mul", x, x)
            case "gate":
                gate = self.op("Sigmoid", self.op("MatMul", x, self.constant(WIDTH, 1)))  # (B, T, 1)
                x = self.op("Mul", gate, x)
            case "position":
                x = self.op("Add", x, self.constant(1, TOKENS, WIDTH))
            case "mix tokens":
                x = self.op("MatMul", self.constant(TOKENS, TOKENS), x)
            case "heads":
                x = self._heads(x, batch)  # (B, 2, T, 2)
                x = self._tokens(self.op("Tanh", x), batch)
            case "attention":
                q, k, v = (self._heads(self.op("MatMul", x, self.constant(WIDTH, WIDTH)), batch) for _ in range(3))
                scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))  # (B, 2, T, T)
                x = self._tokens(self.op("MatMul", self.op("Softmax", scores, axis=-1), v), batch)
            case "glu":
                both = self.op("MatMul", x, self.constant(WIDTH, 2 * WIDTH))
                half = self.op("Split", both, outputs=2, axis=-1, num_outputs=2)
                x = self.op("Mul", half, self.op("Sigmoid", half[:-1] + "1"))
            case "reversed axes":
                x = self.op("Transpose", self.op("Neg", self.op("Transpose", x)))  # no perm: all axes reversed
            case "merge and part tokens":
                flat = self.op("Reshape", x, self.numbers(-1, WIDTH))  # (B·T, C)
                x = self.op(
                    "Reshape", self.op("MatMul", flat, self.constant(WIDTH, WIDTH)), self.numbers(batch, TOKENS, WIDTH)
                )
        self.seen.append(x)
        return x

    def take(self, value: str, tokens: tuple[int, ...], keep_axis: bool = False) -> list[str]:
        shape = (1,) if keep_axis else ()
        return [self.op("Gather", value, self.given(np.full(shape, token, np.int64)), axis=1) for token in tokens]

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [self.batch, TOKENS, WIDTH])],
            values,
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return checked(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))

    def _heads(self, x: str, batch: int) -> str:
        parted = self.op("Reshape", x, self.numbers(batch, TOKENS, 2, WIDTH // 2))
        return self.op("Transpose", parted, perm=[0, 2, 1, 3])

    def _tokens(self, x: str, batch: int) -> str:
        return self.op("Reshape", self.op("Transpose", x, perm=[0, 2, 1, 3]), self.numbers(batch, TOKENS, WIDTH))


def outputs_of(model: onnx.ModelProto, pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: list[NDArray[np.float32]] = session.run(None, {"input": pixels})
    return result


def assert_same(model: onnx.ModelProto, batch: int = 1) -> onnx.ModelProto:
    """The rewritten model, found valid and found to say what `model` says."""
    rewritten = compute_last_block_for_class_token(model)
    onnx.checker.check_model(rewritten, full_check=True)
    assert is_sorted(rewritten)
    pixels = random_pixels((batch, TOKENS, WIDTH))
    for expected, found in zip(outputs_of(model, pixels), outputs_of(rewritten, pixels), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    return rewritten


def shape_of(model: onnx.ModelProto, name: str) -> list[int]:
    info = next(info for info in (*model.graph.value_info, *model.graph.output) if info.name == name)
    return [dim.dim_value for dim in info.type.tensor_type.shape.dim]


def rows_multiplied(model: onnx.ModelProto) -> list[int]:
    """Rows of each linear layer's and each attention product's result, in the graph's order."""
    return [shape_of(model, node.output[0])[-2] for node in model.graph.node if node.op_type == "MatMul"]


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), min_size=1, max_size=7),
    tokens=st.lists(st.integers(0, TOKENS - 1), min_size=1, max_size=3).map(tuple),
    keep_axis=st.booleans(),
    is_free=st.booleans(),
    also=st.one_of(st.none(), st.integers(0, 9)),
    second=st.one_of(st.none(), st.tuples(st.integers(0, 9), st.sampled_from(STEPS), st.integers(0, 2))),
)
def test_what_is_rewritten_says_the_same_whatever_leads_to_the_choice(
    steps: list[tuple[str, int]],
    tokens: tuple[int, ...],
    keep_axis: bool,
    is_free: bool,
    also: int | None,
    second: tuple[int, str, int] | None,
) -> None:
    """also: a value on the way that is a graph output too. second: another choice, after a branch of its own."""
    net = Net("batch" if is_free else 2)
    for kind, earlier in steps:
        net.step(kind, earlier)
    outputs = net.take(net.seen[-1], tokens, keep_axis)
    on_the_way = [name for name in net.seen[1:] if name not in outputs]
    if also is not None and on_the_way:
        outputs.append(on_the_way[also % len(on_the_way)])
    if second is not None:
        start, kind, token = second
        net.seen.append(net.seen[start % len(net.seen)])
        net.step(kind)
        outputs += net.take(net.seen[-1], (token,))
    assert_same(net.model(outputs), batch=3 if is_free else 2)


@pytest.mark.parametrize("kind", STEPS)
def test_each_kind_of_operator_before_the_choice_keeps_its_meaning(kind: str) -> None:
    net = Net()
    net.step("linear")
    net.step(kind)
    net.step("linear")
    assert_same(net.model(net.take(net.seen[-1], (0,))))


def test_an_mlp_is_computed_for_the_chosen_tokens_only() -> None:
    net = Net()
    for kind in ("position", "norm", "linear", "erf", "linear"):
        net.step(kind)
    net.step("residual", earlier=1)
    rewritten = assert_same(net.model(net.take(net.seen[-1], (0, 1))))
    assert rows_multiplied(rewritten) == [2, 2]


def test_attention_keeps_all_keys_and_values_and_computes_the_chosen_queries() -> None:
    net = Net()
    net.step("position")
    net.step("attention")
    rewritten = assert_same(net.model(net.take(net.seen[-1], (0,))))
    # q alone is narrow among the three layers that read all tokens; the products are q·kᵀ and its weights times v
    assert rows_multiplied(rewritten) == [1, TOKENS, TOKENS, 1, 1]


def test_a_gated_layer_that_splits_its_channels_is_left_whole_above_the_split() -> None:
    net = Net()
    for kind in ("glu", "linear"):
        net.step(kind)
    rewritten = assert_same(net.model(net.take(net.seen[-1], (0,))))
    assert rows_multiplied(rewritten) == [TOKENS, 1]


def test_what_is_a_graph_output_too_stays_whole() -> None:
    net = Net()
    for _ in range(3):
        net.step("linear")
    whole = net.seen[2]
    rewritten = assert_same(net.model([*net.take(net.seen[-1], (0,)), whole]))
    assert rows_multiplied(rewritten) == [TOKENS, TOKENS, 1]


def test_what_another_reader_needs_whole_stays_whole() -> None:
    net = Net()
    for _ in range(3):
        net.step("linear")
    total = net.op("ReduceSum", net.seen[2], net.numbers(1), keepdims=0)
    rewritten = assert_same(net.model([*net.take(net.seen[-1], (0,)), total]))
    assert rows_multiplied(rewritten) == [TOKENS, TOKENS, 1]


def test_layer_norm_statistics_that_are_read_keep_their_layer_whole() -> None:
    net = Net()
    net.step("linear")
    normed = net.op("LayerNormalization", net.seen[-1], net.constant(WIDTH), outputs=2, axis=-1)
    total = net.op("ReduceSum", normed[:-1] + "1", net.numbers(1), keepdims=0)
    rewritten = assert_same(net.model([*net.take(normed, (0,)), total]))
    assert rows_multiplied(rewritten) == [TOKENS]


def test_a_product_with_itself_is_left_whole() -> None:
    net = Net()
    square = net.op("MatMul", net.seen[-1], net.constant(WIDTH, TOKENS))  # (B, T, T)
    assert_same(net.model(net.take(net.op("MatMul", square, square), (0,))))


def test_sizes_that_nobody_knows_are_not_taken_for_equal() -> None:
    net = Net("batch")
    halves = net.op("Reshape", net.step("linear"), net.numbers(-1, TOKENS, WIDTH // 2))  # (2·B, T, C/2): tokens mixed
    tail = net.op("Tanh", halves)
    model = net.model(net.take(tail, (0,)))
    for info in model.graph.value_info:
        info.type.tensor_type.shape.dim[0].Clear()
    rewritten = compute_last_block_for_class_token(model)
    pixels = random_pixels((3, TOKENS, WIDTH))
    np.testing.assert_array_equal(outputs_of(rewritten, pixels)[0], outputs_of(model, pixels)[0])


@pytest.mark.parametrize("token", [-1, TOKENS - 1])
def test_a_choice_that_needs_every_token_changes_nothing(token: int) -> None:
    net = Net()
    net.step("linear")
    rewritten = assert_same(net.model(net.take(net.seen[-1], (token,))))
    assert rows_multiplied(rewritten) == [TOKENS]


def test_a_choice_of_channels_or_by_a_computed_index_changes_nothing() -> None:
    net = Net()
    net.step("linear")
    channel = net.op("Gather", net.seen[-1], net.numbers(0), axis=2)
    assert rows_multiplied(assert_same(net.model([channel]))) == [TOKENS]
    computed = Net()
    computed.step("linear")
    index = computed.op("ArgMax", "input", axis=1, keepdims=0)  # (B, C)
    value = computed.op("Gather", computed.seen[-1], index, axis=1)
    assert rows_multiplied(assert_same(computed.model([value]))) == [TOKENS]


@pytest.mark.parametrize(
    ("graph", "shape", "kept"), [(vit_graph, VIT_SHAPE, 1), (deit_graph, DEIT_SHAPE, 2)], ids=["vit", "distilled"]
)
def test_an_exported_vit_says_the_same_with_fewer_rows_in_its_last_block(graph, shape, kept) -> None:  # type: ignore[no-untyped-def]
    model = graph()
    rewritten = compute_last_block_for_class_token(model)
    pixels = random_pixels(shape)
    np.testing.assert_allclose(run_graph(rewritten, pixels), run_graph(model, pixels), rtol=0, atol=1e-5)
    tokens = shape_of(model, next(node for node in model.graph.node if node.op_type == "MatMul").output[0])[-2]
    assert tokens == VIT_TOKENS + kept - 1
    # qkv, q·kᵀ, weights·v, projection, the MLP's two: the first block whole, the last one but for keys and values
    assert rows_multiplied(rewritten) == [tokens] * 6 + [tokens] + [kept] * 5
    assert rows_multiplied(model) == [tokens] * 12


def test_behind_onnx_runtime_s_own_operators_the_last_block_is_narrow_too() -> None:
    """Nobody infers shapes through them: the rewrite itself must keep what it knows."""
    model, _ = apply_rewrites(vit_graph(), ["gelu", "attention"])
    rewritten = compute_last_block_for_class_token(model)
    pixels = random_pixels(VIT_SHAPE)
    np.testing.assert_allclose(run_graph(rewritten, pixels), run_graph(model, pixels), rtol=0, atol=1e-5)
    # q, k, v, projection, the MLP's two: the first block whole, the last one but for keys and values
    assert rows_multiplied(rewritten) == [VIT_TOKENS] * 6 + [1, VIT_TOKENS, VIT_TOKENS, 1, 1, 1]


def test_tokens_that_one_gather_reads_together_are_kept_together() -> None:
    net = Net()
    for _ in range(2):
        net.step("linear")
    rewritten = assert_same(net.model([net.op("Gather", net.seen[-1], net.numbers(2, 0), axis=1)]))
    assert rows_multiplied(rewritten) == [3, 3]


def test_a_dynamic_batch_stays_dynamic() -> None:
    model = vit_graph(dynamic_batch=True)
    rewritten = compute_last_block_for_class_token(model)
    pixels = random_pixels((3, *VIT_SHAPE[1:]))
    np.testing.assert_allclose(run_graph(rewritten, pixels), run_graph(model, pixels), rtol=0, atol=1e-5)
    assert rows_multiplied(rewritten)[-5:] == [1] * 5


@pytest.mark.parametrize("graph", [mean_pool_vit_graph, mobilevit_graph], ids=["mean pool", "mobilevit"])
def test_a_model_without_class_token_comes_back_as_it_was(graph) -> None:  # type: ignore[no-untyped-def]
    model = graph()
    rewritten = compute_last_block_for_class_token(model)
    assert op_types(rewritten) == op_types(model)
    assert [list(node.input) for node in rewritten.graph.node] == [list(node.input) for node in model.graph.node]


def test_a_second_rewrite_finds_nothing_more() -> None:
    once = compute_last_block_for_class_token(vit_graph())
    assert op_types(compute_last_block_for_class_token(once)) == op_types(once)
