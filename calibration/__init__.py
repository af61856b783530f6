"""From an FP32 ONNX file to a Q/DQ INT8 one. Imports edge, never train or export; needs no torch."""
