from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from edgevit.errors import BadFileError, InputError
from edgevit.export.diverge import first_diverging_layer
from edgevit.export.onnx import simplified

LAYERS = 4
WIDTH = 8
PIXELS = np.random.default_rng(7).normal(size=(6, 1, 2, 4)).astype(np.float32)


def model(weights=None, biases=None, *, scopes=False, output="logits", rounding=0.0, residual=None):
    """Flatten, then LAYERS times MatMul + Add + Tanh; named as the dynamo exporter and onnxsim name them."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Flatten", ["input"], ["flat"], name="node_flat", axis=1)]
    tensors, before = [], "flat"
    for i in range(LAYERS):
        weight = (weights or {}).get(i, rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 2)
        bias = (biases or {}).get(i, np.full(WIDTH, 0.1, np.float32))
        last = output if i == LAYERS - 1 else f"tanh_{i}"
        tensors += [numpy_helper.from_array(weight, f"val_{i}"), numpy_helper.from_array(bias, f"blocks.{i}.fc.bias")]
        nodes += [
            helper.make_node("MatMul", [before, f"val_{i}"], [f"product_{i}"], name=f"node_MatMul_{i}"),
            helper.make_node("Add", [f"product_{i}", f"blocks.{i}.fc.bias"], [f"linear_{i}"], name=f"node_linear_{i}"),
            helper.make_node("Tanh", [f"linear_{i}"], [last], name=f"node_tanh_{i}"),
        ]
        before = last
    if rounding:  # what a float32 mean of centered values leaves
        nodes.insert(1, helper.make_node("Mul", ["flat", "nearly"], ["mean"], name="node_mean"))
        tensors.append(numpy_helper.from_array(np.full((1, WIDTH), rounding, np.float32), "nearly"))
    if residual is not None:  # the branch is a hundredth of what it is added to
        tensors.append(numpy_helper.from_array(np.array(0.01, np.float32), "hundredth"))
        place = 1 + 3 * residual + 3
        name = nodes[place - 1].output[0]
        nodes[place - 1].output[0] = "branch"
        nodes.insert(place, helper.make_node("Mul", ["branch", "hundredth"], ["small"], name="node_small"))
        nodes.insert(place + 1, helper.make_node("Add", ["small", f"tanh_{residual - 1}"], [name], name="node_sum"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 2, 4])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, WIDTH])],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if scopes:
        for node in made.graph.node[1:]:
            layer = node.name.rsplit("_", 1)[1]
            entry = node.metadata_props.add()
            entry.key, entry.value = "pkg.torch.onnx.name_scopes", f"['', 'stages.{layer}', 'stages.{layer}.mlp', 'op']"
    return made


def saved(path: Path, made: onnx.ModelProto) -> Path:
    onnx.save(made, path)
    return path


@pytest.fixture
def reference(tmp_path):
    return saved(tmp_path / "reference.onnx", model())


@pytest.mark.parametrize("layer", range(LAYERS))
def test_the_damaged_layer_is_named_by_the_parameter_behind_its_matmul(tmp_path, reference, layer):
    damaged = saved(tmp_path / "bad.onnx", model({layer: np.eye(WIDTH, dtype=np.float32)[::-1].copy()}))
    assert first_diverging_layer(reference, damaged, PIXELS) == f"blocks.{layer}.fc"


def test_a_damaged_bias_is_named_too(tmp_path, reference):
    damaged = saved(tmp_path / "bad.onnx", model(biases={2: np.full(WIDTH, -3.0, np.float32)}))
    assert first_diverging_layer(reference, damaged, PIXELS) == "blocks.2.fc"


def test_the_exporters_metadata_names_the_torch_module(tmp_path):
    good = saved(tmp_path / "good.onnx", model(scopes=True))
    damaged = saved(tmp_path / "bad.onnx", model({1: np.zeros((WIDTH, WIDTH), np.float32)}, scopes=True))
    assert first_diverging_layer(good, damaged, PIXELS) == "stages.1.mlp"


def test_a_parameter_that_several_nodes_share_names_none_of_them(tmp_path):
    good, damaged = model(), model({2: np.zeros((WIDTH, WIDTH), np.float32)})
    for made in (good, damaged):
        for node in made.graph.node:
            if node.op_type == "Add":
                node.input[1] = "blocks.0.fc.bias"  # the simplifier merges equal tensors
    good, bad = saved(tmp_path / "good.onnx", good), saved(tmp_path / "bad.onnx", damaged)
    assert first_diverging_layer(good, bad, PIXELS) == "MatMul 'product_2'"


@pytest.mark.filterwarnings("ignore")
def test_the_simplifier_leaves_the_module_names_in_the_graph(tmp_path):
    simpler = simplified(model(scopes=True))
    damaged = saved(tmp_path / "bad.onnx", model({1: np.zeros((WIDTH, WIDTH), np.float32)}))
    assert first_diverging_layer(saved(tmp_path / "good.onnx", simpler), damaged, PIXELS) == "stages.1.mlp"


def test_metadata_that_cannot_be_read_is_passed_over(tmp_path):
    good = model()
    for node in good.graph.node:
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", "[not python"
    damaged = saved(tmp_path / "bad.onnx", model({1: np.zeros((WIDTH, WIDTH), np.float32)}))
    assert first_diverging_layer(saved(tmp_path / "good.onnx", good), damaged, PIXELS) == "blocks.1.fc"


def test_a_node_without_a_module_is_named_by_operator_tensor_and_the_layer_before(tmp_path, reference):
    damaged = model()
    damaged.graph.node[6].op_type = "Sigmoid"  # Tanh of the second layer
    assert first_diverging_layer(reference, saved(tmp_path / "bad.onnx", damaged), PIXELS) == (
        "Tanh 'tanh_1' after blocks.1.fc"
    )


def test_an_activation_before_every_named_layer_has_no_layer_to_follow(tmp_path, reference):
    damaged = model()
    damaged.graph.node[0].op_type = "Reshape"
    del damaged.graph.node[0].attribute[:]
    damaged.graph.node[0].input.append("shape")
    damaged.graph.initializer.append(numpy_helper.from_array(np.array([1, WIDTH]), "shape"))
    damaged.graph.node.insert(0, helper.make_node("Neg", ["input"], ["negative"]))
    damaged.graph.node[1].input[0] = "negative"
    assert first_diverging_layer(reference, saved(tmp_path / "bad.onnx", damaged), PIXELS) == "Flatten 'flat'"


def test_two_equal_models_diverge_nowhere(tmp_path, reference):
    assert first_diverging_layer(reference, saved(tmp_path / "same.onnx", model()), PIXELS) == "output"


def test_of_models_that_share_no_name_only_the_output_is_named(tmp_path, reference):
    other = model({3: np.zeros((WIDTH, WIDTH), np.float32)}, output="prediction")
    for node in other.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"renamed_{n}" if n not in ("input", "prediction") else n for n in names]
    for tensor in other.graph.initializer:
        tensor.name = f"renamed_{tensor.name}"
    assert first_diverging_layer(reference, saved(tmp_path / "b.onnx", other), PIXELS) == "output"


def test_a_mean_that_is_nearly_zero_is_not_blamed_for_its_rounding(tmp_path):
    good = saved(tmp_path / "good.onnx", model(rounding=1e-8))
    damaged = model({2: np.zeros((WIDTH, WIDTH), np.float32)}, rounding=-3e-8)
    assert first_diverging_layer(good, saved(tmp_path / "bad.onnx", damaged), PIXELS) == "blocks.2.fc"


def test_a_branch_that_a_residual_hides_is_still_the_first_to_be_named(tmp_path):
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 2
    good = saved(tmp_path / "good.onnx", model({1: weight}, residual=1))
    damaged = saved(tmp_path / "bad.onnx", model({1: -weight}, residual=1))
    assert first_diverging_layer(good, damaged, PIXELS) == "blocks.1.fc"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_layer_that_makes_nan_or_infinity_is_named(tmp_path, reference, bad):
    damaged = saved(tmp_path / "bad.onnx", model(biases={1: np.full(WIDTH, bad, np.float32)}))
    assert first_diverging_layer(reference, damaged, PIXELS) == "blocks.1.fc"


def test_infinities_that_both_models_have_are_no_departure(tmp_path):
    infinite = {1: np.full(WIDTH, np.inf, np.float32)}
    good = saved(tmp_path / "good.onnx", model(biases=infinite))
    damaged = saved(tmp_path / "bad.onnx", model({3: np.zeros((WIDTH, WIDTH), np.float32)}, infinite))
    assert first_diverging_layer(good, damaged, PIXELS) == "blocks.3.fc"


class Reader(CalibrationDataReader):
    def __init__(self):
        self.rows = iter([{"input": picture[np.newaxis]} for picture in PIXELS])

    def get_next(self):
        return next(self.rows, None)


def quantized_statically(reference, path):
    quantize_static(reference, path, Reader(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return onnx.load(path)


@pytest.mark.filterwarnings("ignore")
def test_healthy_static_int8_diverges_nowhere(tmp_path, reference):
    quantized_statically(reference, tmp_path / "int8.onnx")
    assert first_diverging_layer(reference, tmp_path / "int8.onnx", PIXELS) == "output"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", [0, 2])
def test_a_ruined_activation_scale_of_static_int8_is_found_behind_its_quantizer(tmp_path, reference, layer):
    damaged = quantized_statically(reference, tmp_path / "int8.onnx")
    scale = next(t for t in damaged.graph.initializer if t.name == f"tanh_{layer}_scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(1e-4, np.float32), scale.name))
    onnx.save(damaged, tmp_path / "bad.onnx")
    assert (
        first_diverging_layer(reference, tmp_path / "bad.onnx", PIXELS)
        == f"Tanh 'tanh_{layer}' after blocks.{layer}.fc"
    )


@pytest.mark.filterwarnings("ignore")
def test_a_ruined_weight_of_dynamic_int8_is_found(tmp_path, reference):
    quantize_dynamic(reference, tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    assert first_diverging_layer(reference, tmp_path / "int8.onnx", PIXELS) == "output"
    damaged = onnx.load(tmp_path / "int8.onnx")
    weight = next(t for t in damaged.graph.initializer if t.name == "val_1_quantized")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[::-1].copy(), weight.name))
    onnx.save(damaged, tmp_path / "bad.onnx")
    assert first_diverging_layer(reference, tmp_path / "bad.onnx", PIXELS) == "blocks.1.fc"


def test_no_picture_is_refused(reference):
    with pytest.raises(InputError, match="no picture to compare two models on"):
        first_diverging_layer(reference, reference, PIXELS[:0])


def test_pictures_of_another_size_are_refused_in_words(reference):
    with pytest.raises(InputError, match=r"does not take pictures of shape \(1, 3, 2, 4\)"):
        first_diverging_layer(reference, reference, np.zeros((1, 3, 2, 4), np.float32))


def test_a_file_that_is_no_model_is_refused(tmp_path, reference):
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf")
    with pytest.raises(BadFileError, match=r"broken\.onnx: is no ONNX model or a broken one"):
        first_diverging_layer(reference, tmp_path / "broken.onnx", PIXELS)
