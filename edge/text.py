"""Untrusted text: which characters a file from outside may use, and how others are escaped.

A name in a bundle, a checkpoint or an ONNX file reaches terminals, logs, web pages and pictures.
Escape sequences would steer the terminal, a newline would forge a line, a bidirectional mark would
show one name as another. Such characters are refused where a file is read (`Text`), and escaped
where a line is written, since file names, cameras and libraries can hold them too (`printable`).

Letters of all scripts, combining marks and symbols are allowed. So are the zero width joiner and
non-joiner, alone among the invisible format characters: Persian and the scripts of India are
misspelt without them, and they steer nothing. They are not counted where names have to differ.
What shows nothing at all is refused like the format characters: fillers, variation selectors, the
empty Braille cell. A name begins and ends with what can be seen.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import IO, Annotated, Any

from pydantic import AfterValidator, StringConstraints
from rich.console import Console
from rich.text import Text as RichText

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


def _check(text: str) -> str:
    for char in text:
        if not is_printable(char):
            raise ValueError(
                f"has the character {printable(char)}, which does not print; "
                "letters, digits, punctuation and spaces are allowed"
            )
    return text


def _check_name(text: str) -> str:
    seen = _without_joiners(_check(text))
    if not seen or seen != seen.strip():
        raise ValueError("begins or ends with a space, or shows nothing")
    return text


def _check_class(text: str) -> str:
    if same_name(_check_name(text)).casefold() == NO_CLASS:
        raise ValueError(f"{NO_CLASS!r} is what a run says where no class is sure; rename it")
    return text


Text = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_check)]
ShortText = Annotated[
    str, StringConstraints(min_length=1, max_length=128), AfterValidator(_check_name)
]
ClassName = Annotated[
    str, StringConstraints(min_length=1, max_length=64), AfterValidator(_check_class)
]


def counted(count: int, noun: str) -> str:
    """`1 frame`, `2 frames`: for nouns that take an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_line(text: str, stream: IO[str] | None = None) -> None:
    """One line to a stream; None is the standard output."""
    print(printable(text), file=sys.stdout if stream is None else stream)


class LineConsole(Console):
    """A terminal to which each text is one line, shown as it is: no escape, markup or emoji code in
    it counts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> RichText:  # type: ignore[override]
        """Every text that is printed, and every cell of a table, comes through here."""
        return super().render_str(printable(text), **options)
