"""The real `twostream` command on the stand-ins for a GPU and TensorRT:

python -m tests.support.cuda.twostream_on_standins run BUNDLE SOURCE --device cuda
"""

import tempfile
from pathlib import Path

import pytest

from edge.cli import main
from tests.support.cuda.children import plug_children
from tests.support.cuda.gpu import GPU, install

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        plug_children(patch, Path(folder))
        install(patch, GPU())
        main()
