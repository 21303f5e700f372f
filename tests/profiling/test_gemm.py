from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgevit.profiling.document import Peak
from edgevit.profiling.gemm import peak_of, write_gemms


def test_the_peak_is_the_best_rate_of_each_kind() -> None:
    fastest_ms = {"fp32-256": 1.0, "fp32-1024": 32.0, "int8-256": 0.5, "int8-1024": 64.0}
    # 256^3 in 1 ms and 1024^3 in 32 ms; 256^3 in 0.5 ms and 1024^3 in 64 ms, which is half as fast
    assert peak_of(fastest_ms) == Peak(fp32_gmac_per_s=33.554432, int8_gmac_per_s=33.554432)
    slower = peak_of({**fastest_ms, "int8-1024": 16.0})
    assert slower.int8_gmac_per_s == pytest.approx(67.108864)


@pytest.mark.parametrize(("kind", "dtype"), [("fp32", np.float32), ("int8", np.uint8)])
def test_each_model_is_one_product_by_a_constant(tmp_path: Path, kind: str, dtype: type) -> None:
    path = write_gemms(tmp_path)[f"{kind}-256"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
    left = np.random.default_rng(1).integers(0, 255, (256, 256)).astype(dtype)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": left})
    np.testing.assert_allclose(found, left.astype(np.float64) @ weights.astype(np.float64), rtol=1e-4, atol=1e-2)
