"""The process that converts a graph: python -m edgevit.export.litert_child GRAPH.onnx OUT.tflite.

Why it could not is the last line of stderr that begins with REASON; the exit code is then 1.
"""

from __future__ import annotations

import sys
import warnings

REASON = "edgevit: "


def main(graph_path: str, target: str) -> int:
    import onnx

    from edgevit.errors import EdgevitError

    try:
        convert(onnx.load(graph_path), target)
    except EdgevitError as error:
        print(f"{REASON}{error}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"{REASON}out of memory. Close other programs, or take a smaller model.", file=sys.stderr)
        return 1
    except Exception as error:  # litert-torch's passes raise about any type
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        print(f"{REASON}{type(error).__name__} {reason[:250]}".rstrip(". ") + ".", file=sys.stderr)
        return 1
    return 0


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


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
