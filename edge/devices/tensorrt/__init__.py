"""TensorRT engines: built on the device from the bundle's ONNX files, cached, and run.

version        the tensorrt package, and the differences between its versions
key            what an engine was built from and for
builder        builds an engine from an ONNX file
float_weights  the network as TensorRT 8 reads it
dla            what building for the deep learning accelerator needs in addition
layers         the precision of an engine's layers
progress       reports on a build and lets Ctrl-C stop it
cache          stores the engines of a bundle
get_or_build   gets a stream's engine from the cache, or builds it
tuning         the precision and processor that `twostream build` chose for each stream
engine         runs an engine
"""
