"""The real `twostream` command on the stand-ins for a GPU and TensorRT:

python -m tests.support.cuda.twostream_on_standins run BUNDLE SOURCE --device cuda
"""

import os
import tempfile
from pathlib import Path

import pytest

from edge.cli import main
from tests.support.cuda.gpu import GPU, install
from tests.support.paths import REPOSITORY

# The process in which a run checks itself has the same GPU.
_IN_CHILDREN = """import sys
if any("self_check" in word for word in sys.orig_argv):
    import tests.support.cuda.plugged
"""

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_IN_CHILDREN, encoding="utf-8")
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{REPOSITORY}")
        install(patch, GPU())
        main()
