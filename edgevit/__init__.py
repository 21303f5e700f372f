"""edgevit: tiny vision transformers on small boards, with figures that are true."""

import os

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime reports its use to its maker unless this is set before it is imported. Set here for every
# process that edgevit runs in or starts; a bundle's agent sets it too. Whoever wants to report sets it to 0.
# Source: https://github.com/microsoft/onnxruntime/pull/27379
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
