"""The real `twostream` command on doubles of pycuda and TensorRT:

python -m tests.support.cuda.twostream_on_doubles run BUNDLE SOURCE --device cuda
"""

import pytest

from edge.cli import main
from tests.support.cuda.pycuda_double import GPU, install

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        install(patch, GPU())
        main()
