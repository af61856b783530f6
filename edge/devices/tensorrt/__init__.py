"""TensorRT engines: built on the device from the bundle's ONNX, kept, found again and run.

version       the tensorrt package, and what differs from version to version
key           what an engine belongs to
dla           what the deep learning accelerator needs beside that
builder       ONNX to engine; layers: what its layers compute in; progress: what a build is at
cache         the engines of a folder
get_or_build  the engine of a stream, found or built
tuning        the precision and processor that `twostream build` chose for each stream
engine        an engine that runs
"""
