"""TensorRT: what its versions take of an ONNX graph, proved on the graph alone."""
