"""TensorRT engines: built on the device from the bundle's ONNX, kept, found again and run.

library    the tensorrt package, and what differs from version to version
key        what an engine belongs to
variant    the network without Q/DQ, for FP16 and FP32
dla        what the deep learning accelerator needs beside that
build      ONNX to engine; layers: what its layers compute in
cache      the engines of a folder
prepare    the engine of a stream, found or built
runtime    an engine that runs
"""
