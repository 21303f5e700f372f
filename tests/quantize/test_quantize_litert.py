"""INT8 of .tflite files: which operators, by which kinds, and what is said of those left in float."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.errors import EdgevitError, InputError
from edgevit.policies import litert_policies
from edgevit.policy import Policy
from edgevit.quantize import litert
from edgevit.quantize.calibrators import Distribution
from edgevit.quantize.litert import observe_tensors, quantize_litert
from edgevit.quantize.nodes import QuantizableNodes
from edgevit.quantize.tflite import read_operators
from edgevit.recipe import ExportSpec
from edgevit.runtimes import open_session

if find_spec("litert_torch") is None:
    pytest.skip("litert_torch is not installed", allow_module_level=True)
from litert_files import converted, offered

SHAPES = {"vit": (1, 32, 32, 1), "mobilevit": (1, 64, 64, 3)}


def pictures(name: str, count: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(SHAPES[name]).astype(np.float32) for _ in range(count)]


def observed(name: str) -> dict[str, Distribution]:
    return observe_tensors(converted(name), offered(name), pictures(name))


def quantized(name: str, target: Path, **policy: Any) -> Any:
    asked = Policy.model_validate({"runtime": "litert", **policy})
    return quantize_litert(converted(name), target, offered(name), asked, lambda: observed(name))


def cosine(name: str, target: Path) -> float:
    """Of the logits with those of fp32, on a picture that calibrated nothing."""
    pixels = np.random.default_rng(9).standard_normal(SHAPES[name]).astype(np.float32).transpose(0, 3, 1, 2)
    a, b = (open_session(path, "litert", 1).run(pixels)[0] for path in (converted(name), target))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_vits_operators_are_found_by_kind() -> None:
    nodes = offered("vit").nodes
    # queries, keys, values, projection and two of the MLP, in two blocks; and the head
    assert (len(nodes.linear), len(nodes.conv), len(nodes.attention), nodes.silu) == (2 * 6 + 1, 1, 2 * 2, ())
    assert len(nodes.residual) == 2 * 2 - 1  # the last sum is of the class token alone, a vector


def test_a_hybrids_operators_are_found_by_kind() -> None:
    nodes = offered("mobilevit").nodes
    assert set(nodes.conv_kinds.values()) == {"stem", "pointwise", "dense", "depthwise"}
    assert len(nodes.silu) % 2 == 0
    assert nodes.silu
    assert nodes.attention


def test_dynamic_is_nearest_to_fp32_and_needs_no_pictures(tmp_path: Path) -> None:
    asked = Policy(runtime="litert", linear="int8-dynamic")

    def none() -> dict[str, Distribution]:
        raise AssertionError("dynamic INT8 looked at pictures")

    done = quantize_litert(converted("vit"), tmp_path / "d.tflite", offered("vit"), asked, none)
    assert (done.int8["linear layers"], done.int8["convolutions"], done.left_in_float) == ((13, 13), (0, 1), ())
    assert cosine("vit", tmp_path / "d.tflite") > 0.999
    assert (tmp_path / "d.tflite").stat().st_size < 0.7 * converted("vit").stat().st_size


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_static_has_ranges_of_real_pictures(tmp_path: Path, activations: str) -> None:
    done = quantized("vit", tmp_path / "s.tflite", linear="int8-static", conv="int8-static", activations=activations)
    assert (done.int8["linear layers"], done.int8["convolutions"]) == ((13, 13), (1, 1))
    assert done.int8["attention products"] == (0, 4)
    assert cosine("vit", tmp_path / "s.tflite") > 0.98
    assert any(operator.kind == "QUANTIZE" for operator in read_operators(tmp_path / "s.tflite"))


def test_a_hybrid_is_quantized_by_kinds_of_convolutions(tmp_path: Path) -> None:
    kinds = offered("mobilevit").nodes.conv_kinds
    pointwise = sum(kind == "pointwise" for kind in kinds.values())
    done = quantized(
        "mobilevit", tmp_path / "p.tflite", conv="int8-static", conv_kinds=("pointwise",), residual="int8-static"
    )
    assert done.int8["convolutions"] == (pointwise, len(kinds))
    assert done.int8["linear layers"][0] == 0
    assert cosine("mobilevit", tmp_path / "p.tflite") > 0.95


def test_nodes_stay_in_float_by_their_onnx_names(tmp_path: Path) -> None:
    names = offered("vit").names
    first, second = (names[scope] for scope in offered("vit").nodes.linear[:2])
    done = quantized("vit", tmp_path / "f.tflite", linear="int8-dynamic", float_nodes=(first, second))
    assert (done.int8["linear layers"], done.left_in_float) == ((11, 13), ())
    floats = {
        op.scope for op in read_operators(tmp_path / "f.tflite") if op.kind == "FULLY_CONNECTED" and not op.is_int8
    }
    assert floats == set(offered("vit").nodes.linear[:2])


def test_softmax_and_gelu_are_never_in_int8(tmp_path: Path) -> None:
    quantized("vit", tmp_path / "s.tflite", linear="int8-static", conv="int8-static", attention="int8-static")
    operators = read_operators(tmp_path / "s.tflite")
    assert {operator.kind for operator in operators} >= {"SOFTMAX", "GELU"}
    assert not any(operator.is_int8 for operator in operators if operator.kind in ("SOFTMAX", "GELU", "MEAN", "RSQRT"))


def test_what_stays_in_float_between_int8_products_is_remarked_and_so_are_scores_that_are_cut_off(
    tmp_path: Path,
) -> None:
    policy = Policy(linear="int8-static", attention="int8-static", runtime="litert")
    narrow = observed("vit")
    for operator in read_operators(converted("vit")):
        if operator.kind == "BATCH_MATMUL":
            (name,) = operator.scope.removesuffix(";").split(";;")[:1]
            narrow[name] = Distribution()
            narrow[name].observe(np.linspace(-1, 1, 100_000, dtype=np.float32))
            narrow[name].observe(np.full(1, 50.0, np.float32))  # one in 100,000: a percentile leaves it out
    for calibrator, count in (("minmax", 1), ("percentile", 2)):
        asked = policy.model_copy(update={"calibrator": calibrator})
        done = quantize_litert(converted("vit"), tmp_path / calibrator, offered("vit"), asked, lambda: narrow)
        assert "node_softmax" in done.remarks[0]
        assert len(done.remarks) == count
    assert re.search(
        r"2 Softmax read, most of all at node_softmax\w*: 50 on .* pictures, [01][.\d]* at most", done.remarks[1]
    )
    assert quantized("vit", tmp_path / "dynamic", linear="int8-dynamic").remarks == ()


def test_what_the_quantizer_leaves_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = litert._recipe
    scope = offered("vit").nodes.linear[0]

    def without(kinds: Any, assignment: Any, policy: Policy) -> list[dict[str, Any]]:
        kept = tuple(name for name in assignment.dynamic if name != scope)
        return real(kinds, litert.Assignment(assignment.static, assignment.attention, kept, assignment.stored), policy)

    monkeypatch.setattr(litert, "_recipe", without)
    done = quantized("vit", tmp_path / "d.tflite", linear="int8-dynamic")
    assert (done.int8["linear layers"], done.left_in_float) == ((12, 13), (offered("vit").names[scope],))


@pytest.mark.parametrize(("field", "value"), [("smooth_alpha", 0.5), ("equalize", True), ("correct_bias", True)])
def test_what_litert_cannot_do_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(EdgevitError, match=f"^LiteRT's INT8 has no {field}: it is made from a file, not from the"):
        quantized("vit", tmp_path / "x.tflite", linear="int8-dynamic", **{field: value})


def test_a_quantizer_that_fails_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> Any:
        raise ValueError("no\nstack")

    monkeypatch.setattr(litert, "_recipe", fail)
    with pytest.raises(EdgevitError, match=r"^LiteRT cannot quantize this model: ValueError no$"):
        quantized("vit", tmp_path / "x.tflite", linear="int8-dynamic")
    assert not list(tmp_path.iterdir())


def test_ranges_are_those_of_the_pictures() -> None:
    source = next(values for name, values in observed("vit").items() if name.endswith("args_0"))
    pixels = np.stack(pictures("vit"))
    assert (source.low, source.high) == (pixels.min(), pixels.max())


def test_no_picture_and_broken_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="Static INT8 needs pictures to calibrate on, and there is none"):
        observe_tensors(converted("vit"), offered("vit"), [])
    with pytest.raises(EdgevitError, match=r"^Tensor '.+' holds NaN or infinity on calibration picture 1\.$"):
        observe_tensors(converted("vit"), offered("vit"), [np.full(SHAPES["vit"], np.nan, np.float32)])


def test_usual_policies_by_what_a_model_has() -> None:
    none = QuantizableNodes((), (), (), (), (), (), {})
    spec = ExportSpec(runtime="litert")
    assert list(litert_policies(none, spec, "m")) == ["fp32"]
    vit = litert_policies(offered("vit").nodes, spec, "m")
    assert {name: policy.residual for name, policy in vit.items()} == dict.fromkeys(vit, "fp32")
    assert list(vit) == ["fp32", "int8-dynamic", "int8-static"]
    hybrid = litert_policies(offered("mobilevit").nodes, spec, "m")
    assert list(hybrid) == [*vit, "int8-dynamic-pointwise", "mixed", "mixed-pointwise"]
    with pytest.raises(InputError, match="'m' has nothing that litert gains by mixing"):
        litert_policies(offered("vit").nodes, spec.model_copy(update={"precision": "mixed"}), "m")
