"""From an FP32 ONNX file to an INT8 one with Q/DQ nodes. Does not import torch."""
