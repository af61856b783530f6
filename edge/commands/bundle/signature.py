"""Signatures of minisign (Ed25519): https://jedisct1.github.io/minisign/"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from edge.errors import BundleError
from edge.text import printable

SUFFIX = ".minisig"
MAX_BYTES = 4096  # of a signature


def read_key(key: str) -> Any:
    """The public key (minisign.PublicKey), as minisign prints it or from its file. Raises
    BundleError if it is neither."""
    import minisign

    try:
        if Path(key).is_file():
            return minisign.PublicKey.from_file(key)
        return minisign.PublicKey.from_base64(key)
    except (minisign.Error, OSError, ValueError):
        raise BundleError(
            f"--key {printable(key)[:80]}: is neither a public key of minisign, which begins with "
            "RW, nor the file of one"
        ) from None


def check_signature(signed: IO[bytes], signature: bytes, key: Any, name: str) -> str:
    """Check that a file was signed with a key of `read_key`; returns the signature's comment, which
    is signed too. name: of the file, for messages. Raises BundleError if it was not."""
    import minisign

    try:
        found = minisign.Signature.from_bytes(signature)
        key.verify(signed, found)
    except (minisign.Error, ValueError) as fault:
        raise BundleError(
            f"{name}: is not signed with this key ({fault}); do not use it unless you know why"
        ) from None
    return printable(found.trusted_comment)
