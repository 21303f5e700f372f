from __future__ import annotations

import onnx
import pytest
from sketch import Sketch, kinds, rewritten_same

from edgevit.errors import InputError
from edgevit.rewrite import EXACT, REWRITES, apply_rewrites

FOR_INT8 = ("channels-last", "pixel-attention", "instance-norm", "linear-conv", "wide-conv")  # more nodes, less work
FOR_TENSORRT = ("norm-parts",)  # more nodes


def silu_after_gelu() -> onnx.ModelProto:
    sketch = Sketch((2, 5), opset=20)
    gelu = sketch.op("Gelu", "input")
    return sketch.model(sketch.op("Mul", gelu, sketch.op("Sigmoid", gelu)))


def test_every_rewrite_of_the_table_is_there_and_leaves_a_foreign_graph_alone() -> None:
    sketch = Sketch((2, 5))
    model = sketch.model(sketch.op("Sin", "input"))
    for rewrite in REWRITES:
        assert rewrite.apply(model) is model
    assert len({rewrite.name for rewrite in REWRITES}) == len(REWRITES)


def test_approximations_are_not_among_the_exact_ones() -> None:
    assert {rewrite.name for rewrite in REWRITES} - set(EXACT) == {"gelu-tanh", "gelu-sigmoid", "gelu-piecewise"}


def test_names_are_applied_in_the_table_s_order_and_those_that_changed_something_returned() -> None:
    rewritten, changed = apply_rewrites(silu_after_gelu(), ["layout", "gelu-tanh", "silu"])
    assert changed == ("silu", "gelu-tanh")
    assert kinds(rewritten) == {"FastGelu": 1, "QuickGelu": 1}


def test_no_name_and_no_match_give_back_the_model_itself() -> None:
    model = silu_after_gelu()
    assert apply_rewrites(model, []) == (model, ())
    result, changed = apply_rewrites(model, ["heads", "gelu"])
    assert result is model
    assert changed == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [("atention-split", "Unknown rewrite 'atention-split'. Did you mean 'attention-split'?"), ("zzz", "There are: ")],
)
def test_an_unknown_name_is_met_with_the_nearest_one(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        apply_rewrites(silu_after_gelu(), ["silu", name])


def test_all_exact_rewrites_together_keep_a_real_graph_s_logits(family: str, family_graph: onnx.ModelProto) -> None:
    def all_but_for_int8(model: onnx.ModelProto) -> onnx.ModelProto:
        return apply_rewrites(model, set(EXACT) - {*FOR_INT8, *FOR_TENSORRT})[0]

    result = rewritten_same(all_but_for_int8, family_graph)
    assert len(result.graph.node) < len(family_graph.graph.node)
    for rewrite in REWRITES:  # each on its own: 'layout' would make one Transpose of their two
        if rewrite.name in FOR_INT8:
            result = rewritten_same(rewrite.apply, result, 0.0 if rewrite.name == "channels-last" else 2e-5)
