"""Importing this plugs the stand-ins for a GPU and TensorRT into this process, until it ends:

python -c "import tests.support.cuda.plugged; import pytest; pytest.main()" tests/gpu
"""

from importlib.machinery import ModuleSpec

import pytest

from tests.support.cuda.gpu import GPU, install

trt = install(pytest.MonkeyPatch(), GPU())
trt.__spec__ = ModuleSpec("tensorrt", None)  # importlib.util.find_spec asks for it
