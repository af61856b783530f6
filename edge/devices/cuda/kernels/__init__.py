"""CUDA kernels, and the order and sizes in which they are launched; nothing here needs a GPU."""
