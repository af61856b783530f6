"""From an FP32 ONNX file to a Q/DQ INT8 one. Imports edge alone, of the packages here; no torch."""
