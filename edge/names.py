"""Names in files from outside, as types of their fields: what `edge.text` does not let through is
refused where the file is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from edge.text import check_class, check_name, check_text

Text = Annotated[str, StringConstraints(max_length=1024), AfterValidator(check_text)]
ShortText = Annotated[
    str, StringConstraints(min_length=1, max_length=128), AfterValidator(check_name)
]
ClassName = Annotated[
    str, StringConstraints(min_length=1, max_length=64), AfterValidator(check_class)
]
