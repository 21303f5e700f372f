from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_models import (
    CLASSES,
    MOBILEVIT_SHAPE,
    VIT_SHAPE,
    mobilevit_graph,
    mobilevit_model,
    op_types,
    random_pixels,
    run_graph,
    vit_graph,
    vit_model,
)
from torch import nn

from edgevit.errors import BadFileError, EdgevitError, MissingExtraError
from edgevit.export import onnx as onnx_export
from edgevit.export.onnx import (
    MODULES_KEY,
    checked,
    class_count,
    export_onnx,
    input_shape,
    read_onnx,
    simplified,
    write_onnx,
)

SIDE = 2


class Doubled(nn.Module):
    """The smallest model there is: (1, 1, 2, 2) to twice its four pixels."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        print("a forward pass that prints")
        return pixels.flatten(1) * 2


class Branching(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1) if pixels.sum() > 0 else -pixels.flatten(1)


class Bitwise(nn.Module):
    """ONNX has BitwiseAnd from opset 18 on."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.bitwise_and(pixels.flatten(1).to(torch.int32), 3).float()


class SingularValues(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(pixels.flatten(1))


def torch_logits(pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return vit_model()(torch.from_numpy(pixels)).numpy()


def hand_made(
    inputs: int = 1, outputs: int = 1, shape: tuple[int | str, ...] = (1, 1, SIDE, SIDE), classes: int | str = 4
) -> onnx.ModelProto:
    """Each output is the flattened first input plus the constant 1 + 2."""
    names = [f"logits_{index}" for index in range(outputs)]
    nodes = [
        helper.make_node("Add", ["one", "two"], ["three"]),
        helper.make_node("Flatten", ["input_0"], ["flat"], axis=1),
        *(helper.make_node("Add", ["flat", "three"], [name]) for name in names),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(f"input_{index}", TensorProto.FLOAT, shape) for index in range(inputs)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], classes]) for name in names],
        [numpy_helper.from_array(np.array([number], np.float32), name) for name, number in (("one", 1), ("two", 2))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def opset(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain == "")


def test_the_graph_takes_input_gives_logits_and_agrees_with_torch() -> None:
    graph = vit_graph()
    assert [value.name for value in graph.graph.input] == ["input"]
    assert [value.name for value in graph.graph.output] == ["logits"]
    assert (input_shape(graph), class_count(graph), opset(graph)) == (VIT_SHAPE, CLASSES, 18)
    pixels = random_pixels(VIT_SHAPE)
    np.testing.assert_allclose(run_graph(graph, pixels), torch_logits(pixels), rtol=0, atol=1e-5)


def test_a_dynamic_batch_takes_one_picture_or_five() -> None:
    graph = vit_graph(dynamic_batch=True)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert input_shape(graph) == VIT_SHAPE
    pixels = random_pixels((5, *VIT_SHAPE[1:]))
    np.testing.assert_allclose(run_graph(graph, pixels), torch_logits(pixels), rtol=0, atol=1e-5)
    np.testing.assert_allclose(run_graph(graph, pixels[:1]), torch_logits(pixels[:1]), rtol=0, atol=1e-5)


def test_opset_17_is_reached_and_says_the_same() -> None:
    graph = export_onnx(vit_model(), VIT_SHAPE, opset=17)
    assert opset(graph) == 17
    pixels = random_pixels(VIT_SHAPE)
    np.testing.assert_allclose(run_graph(graph, pixels), torch_logits(pixels), rtol=0, atol=1e-5)


def test_a_mean_over_pixels_reaches_opset_17_too() -> None:
    """onnx's converter left it an attribute of opset 18, at which the simplifier fails."""
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    graph = export_onnx(model, (1, 3, 8, 8), opset=17)
    assert opset(graph) == 17
    pixels = random_pixels((1, 3, 8, 8))
    np.testing.assert_allclose(run_graph(graph, pixels), pixels.mean(axis=(2, 3)), atol=1e-6)


def test_an_operator_that_the_older_opset_lacks_is_refused_with_both_opsets() -> None:
    with pytest.raises(EdgevitError, match=r"This model needs ONNX opset 18, and 17 was asked for: .*BitwiseAnd"):
        export_onnx(Bitwise(), (1, 1, SIDE, SIDE), opset=17)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Branching(), "opset 18: Could not guard on data-dependent expression"),
        (SingularValues(), "opset 18: No ONNX function found for .*_linalg_svd"),
    ],
)
def test_a_model_that_cannot_be_expressed_is_refused_with_what_stopped_the_exporter(
    model: nn.Module, words: str
) -> None:
    with pytest.raises(EdgevitError, match=f"This model cannot be exported to ONNX {words}") as caught:
        export_onnx(model, (1, 1, SIDE, SIDE))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_nothing_is_printed_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    graph = export_onnx(Doubled(), (1, 1, SIDE, SIDE))
    assert capfd.readouterr().out == ""
    pixels = np.array([[[[1.0, 2.0], [3.0, 4.0]]]], np.float32)
    assert run_graph(graph, pixels).tolist() == [[2.0, 4.0, 6.0, 8.0]]


def test_batch_normalization_is_folded_into_the_convolutions() -> None:
    model, graph = mobilevit_model(), mobilevit_graph()
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert "BatchNormalization" not in op_types(graph)
    pixels = random_pixels(MOBILEVIT_SHAPE)
    expected = model(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(run_graph(graph, pixels), expected, rtol=0, atol=1e-5)


def test_nodes_keep_the_names_of_their_torch_modules() -> None:
    scopes = [
        entry.value for node in vit_graph().graph.node for entry in node.metadata_props if entry.key == MODULES_KEY
    ]
    for module in ("patch_embed.proj", "blocks.0.attn.qkv", "blocks.1.mlp.fc1", "blocks.1.norm2", "head"):
        assert any(f"'{module}'" in scope for scope in scopes), module


def test_linear_layers_stay_matmul_on_the_tokens_axis() -> None:
    # qkv, attention's output and the MLP's two, in two blocks, and attention's own two products
    assert op_types(vit_graph()).count("MatMul") == 2 * (4 + 2)


def test_the_file_is_whole_without_external_data(tmp_path: Path) -> None:
    path = write_onnx(vit_graph(), tmp_path / "vit.onnx")
    assert list(tmp_path.iterdir()) == [path]
    model = read_onnx(path)
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)
    pixels = random_pixels(VIT_SHAPE)
    np.testing.assert_array_equal(run_graph(model, pixels), run_graph(vit_graph(), pixels))


def test_more_than_protobuf_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = hand_made()
    monkeypatch.setattr(onnx_export, "PROTOBUF_LIMIT_BYTES", model.ByteSize() - 1)
    with pytest.raises(EdgevitError, match=r"^big\.onnx: larger than 2 GB, which one ONNX file cannot hold"):
        write_onnx(model, tmp_path / "big.onnx")
    assert not list(tmp_path.iterdir())


def test_constants_are_folded() -> None:
    simpler = simplified(hand_made())
    assert len(simpler.graph.node) == 2
    assert run_graph(simpler, np.zeros((1, 1, SIDE, SIDE), np.float32)).tolist() == [[3.0, 3.0, 3.0, 3.0]]


@pytest.mark.parametrize(("package", "extra"), [("onnxscript", "export"), ("onnxsim", "export")])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs the package '{package}'.*edgevit\[{extra}\]"):
        export_onnx(Doubled(), (1, 1, SIDE, SIDE))


def test_a_graph_that_is_not_valid_is_refused_in_one_line() -> None:
    model = hand_made()
    model.graph.node[2].input[0] = "nowhere"
    with pytest.raises(EdgevitError, match=r"^The ONNX graph is not valid: .*nowhere") as caught:
        checked(model)
    assert "\n" not in str(caught.value)


def test_a_checked_graph_knows_its_shapes() -> None:
    inferred = checked(hand_made())
    flat = next(info for info in inferred.graph.value_info if info.name == "flat")
    assert [dim.dim_value for dim in flat.type.tensor_type.shape.dim] == [1, SIDE * SIDE]


def test_a_directory_or_a_missing_file_is_no_onnx_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.onnx"):
        with pytest.raises(BadFileError, match=rf"{path}: is not a file\. Give the path of an \.onnx file\."):
            read_onnx(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, share: float) -> None:
    data = vit_graph().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadFileError, match=r"cut\.onnx: is no ONNX model or a broken one: .") as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.onnx"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(BadFileError, match=r"picture\.onnx: is no ONNX model or a broken one"):
        read_onnx(path)


@pytest.mark.parametrize(
    "model",
    [hand_made(inputs=2), hand_made(outputs=2), hand_made(shape=(1, SIDE * SIDE))],
    ids=["two in", "two out", "rank"],
)
def test_another_signature_than_pictures_to_classes_is_refused(tmp_path: Path, model: onnx.ModelProto) -> None:
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BadFileError, match=r"must have one input \(B, C, H, W\) and one output \(B, classes\)"):
        read_onnx(tmp_path / "other.onnx")


def test_nodes_without_a_name_get_one_each(tmp_path: Path) -> None:
    onnx.save(hand_made(), tmp_path / "net.onnx")
    assert [node.name for node in read_onnx(tmp_path / "net.onnx").graph.node] == ["Add_0", "Flatten_1", "Add_2"]


def test_a_free_batch_counts_as_one_and_an_unknown_number_of_classes_as_none() -> None:
    model = hand_made(shape=("batch", 1, SIDE, SIDE), classes="many")
    assert (input_shape(model), class_count(model)) == ((1, 1, SIDE, SIDE), 0)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    assert class_count(model) == 0
