"""The real `twostream` command on the stand-ins for a GPU and TensorRT:

python -m tests.support.cuda.twostream_on_standins run BUNDLE SOURCE --device cuda
"""

import pytest

from edge.cli import main
from tests.support.cuda.gpu import GPU, install

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        install(patch, GPU())
        main()
