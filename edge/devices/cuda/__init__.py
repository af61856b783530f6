"""The CUDA device: kernels through pycuda, networks in TensorRT."""
