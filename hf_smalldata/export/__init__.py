"""A Run's model for other runtimes: ONNX in full, half and 8-bit precision, each measured beside the model itself."""
