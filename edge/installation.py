"""What to install, and the pip command that does.

The package is on no index: it is installed from a checkout or from a wheel file.
"""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What pycuda's build takes from the distribution, as in apt-packages-cuda.txt; and CUDA's headers.
PYCUDA_NEEDS = "g++ python3-dev"

_CHECKOUT = Path(__file__).resolve().parents[1]


def install_line(extra: str) -> str:
    """For example: pip install './twostream_edge-0.1.0-py3-none-any.whl[web]'."""
    if (_CHECKOUT / "setup.cfg").is_file():
        return f"pip install -e {shlex.quote(f'{_CHECKOUT}[{extra}]')}"
    return f"pip install {shlex.quote(f'{_origin()}[{extra}]')}"


def _origin() -> str:
    """The file or folder that this was installed from, as pip remembers it (PEP 610). Where it is
    gone, the wheel's name, to be looked for."""
    distribution = metadata.distribution("twostream-edge")
    url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
    path = unquote(urlsplit(url).path)
    if url.startswith("file:") and Path(path).exists():
        return path
    return f"./twostream_edge-{distribution.version}-py3-none-any.whl"
