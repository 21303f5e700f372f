"""The process that converts a graph: python -m edgevit.export.litert_child GRAPH.onnx OUT.tflite."""

from __future__ import annotations

import sys
import warnings

from edgevit.export.child import end_with_parent, exit_code


def main(graph_path: str, target: str) -> int:
    import onnx

    return exit_code(lambda: convert(onnx.load(graph_path), target))


def convert(graph: object, target: str) -> None:
    """Writes the .tflite file. A float picture is taken with its channels last, as LiteRT's convolutions want it."""
    warnings.simplefilter("ignore")
    import torch

    from edgevit.export.torch_graph import GraphModule
    from edgevit.models.torchvision_ops import import_timm

    import_timm()  # litert_torch imports torchvision by way of transformers, where it may not load
    import litert_torch

    module = GraphModule(graph).eval()
    shape, is_float = module.input_shape, module.input_type is torch.float32
    if is_float:
        module = litert_torch.to_channel_last_io(module, args=[0])
        shape = (shape[0], *shape[2:], shape[1])
    example = torch.zeros(shape, dtype=torch.float32 if is_float else torch.uint8)
    litert_torch.convert(module.eval(), (example,)).export(target)
    flatten_biases(target)


def flatten_biases(path: str) -> None:
    """Makes vectors of linear layers' biases of (1, 1, N), which the converter leaves where it folds a layer scale.

    As they are, LiteRT cannot open the file once its biases have a scale for each channel.
    Source: https://github.com/google-ai-edge/litert-torch/issues/336.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(path)
    linear = flatbuffer_utils.BuiltinOperator.FULLY_CONNECTED
    for graph in model.subgraphs:
        for operator in graph.operators:
            is_linear = model.operatorCodes[operator.opcodeIndex].builtinCode == linear
            if is_linear and len(operator.inputs) > 2 and operator.inputs[2] >= 0:
                bias = graph.tensors[operator.inputs[2]]
                bias.shape = [bias.shape[-1]]
    flatbuffer_utils.write_model(model, path)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*sys.argv[1:]))
