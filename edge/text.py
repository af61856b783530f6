"""Untrusted text: which characters a file from outside may use, and how others are escaped.

A name in a bundle, a checkpoint or an ONNX file reaches terminals, logs, web pages and pictures.
Escape sequences would steer the terminal, a newline would forge a line, a bidirectional mark would
show one name as another. Such characters are refused where a file is read (edge/names.py), and
escaped where a line is written, since file names, cameras and libraries can hold them too
(`printable`).

Letters of all scripts, combining marks and symbols are allowed. So are the zero width joiner and
non-joiner, alone among the invisible format characters: Persian and the scripts of India are
misspelt without them, and they steer nothing. They are not counted where names have to differ.
What shows nothing at all is refused like the format characters: fillers, variation selectors, the
empty Braille cell. A name begins and ends with what can be seen.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import IO

_JOINERS = "\u200c\u200d"
# control, format, surrogate, private use, unassigned; line and paragraph separators
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Default_Ignorable_Code_Point (DerivedCoreProperties.txt) of other categories, and a blank symbol
_BLANK = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800),
            *(0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
        ),
    )
)
NO_CLASS = "unknown"  # the label where no class reaches the threshold
BACKGROUND = "background"  # the folder of clips that show none of the actions


def is_printable(char: str) -> bool:
    hidden = unicodedata.category(char) in _HIDDEN or char in _BLANK
    return not hidden or char in _JOINERS


def printable(text: str) -> str:
    """`text` in one line that can do nothing to a terminal: what is not printable is escaped as in
    Python, `\\x1b`, `\\n`, `\\u202e`."""
    return "".join(
        char if is_printable(char) else char.encode("unicode_escape").decode() for char in text
    )


def same_name(text: str) -> str:
    """A key that is equal for names that differ only in joiners, spaces or Unicode normalisation,
    which a person cannot see."""
    return " ".join(unicodedata.normalize("NFC", _without_joiners(text)).split())


def _without_joiners(text: str) -> str:
    return "".join(char for char in text if char not in _JOINERS)


def check_text(text: str) -> str:
    """`text` itself. Raises ValueError if it has a character that does not print."""
    for char in text:
        if not is_printable(char):
            raise ValueError(
                f"has the character {printable(char)}, which does not print; "
                "letters, digits, punctuation and spaces are allowed"
            )
    return text


def check_name(text: str) -> str:
    """`text` itself. Raises ValueError if it cannot be seen as what it is."""
    seen = _without_joiners(check_text(text))
    if not seen or seen != seen.strip():
        raise ValueError("begins or ends with a space, or shows nothing")
    return text


def check_class(text: str) -> str:
    """`text` itself. Raises ValueError if it can be no name of a class."""
    if same_name(check_name(text)).casefold() == NO_CLASS:
        raise ValueError(f"{NO_CLASS!r} is what a run says where no class is sure; rename it")
    return text


def counted(count: int, noun: str) -> str:
    """`1 frame`, `2 frames`: for nouns that take an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_line(text: str, stream: IO[str] | None = None) -> None:
    """One line to a stream; None is the standard output."""
    print(printable(text), file=sys.stdout if stream is None else stream)
