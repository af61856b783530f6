"""Hides the passwords in addresses and in the text of pipelines, before they are shown.

    rtsp://user:password@host/                    user and password, of any scheme
    user-id=bob user-pw=x, passphrase="a b"       properties of elements
    ?user=bob&pwd=x, ?token=x, ?loginpas=x        parameters of addresses
    /user=admin_password=x_channel=1              the same in paths, as recorders have them

A secret that nothing names, as in rtsps://host/SECRET, cannot be known for one.
"""

from __future__ import annotations

import re

HIDDEN = "***"
# up to the last @, since a password may hold @ and spaces, and a mistyped address may lack a slash;
# not over an address in which it is hidden already, nor in our own hints
_ADDRESS = r"\b(?!file:)[a-z][a-z0-9+.-]*:/+"
_HINTS = r"/*(?:\*\*\*@|\[USER:PASSWORD@|viewer:TOKEN@)"
_CREDENTIALS = re.compile(
    rf"({_ADDRESS})(?!{_HINTS})(?:(?!{_ADDRESS}{_HINTS}).)*@", re.IGNORECASE | re.DOTALL
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/*", re.IGNORECASE)
_SECRET = re.compile(
    r"""
    (?P<name> (?<![^\W_]) (?: login | user | usr | admin | camera | cam | rtsp | http )?
        (?: pass (?:w(?:or)?d | wort | phrase | code)? | pas | p?s?wd | psw | pw
        | token | secret | api[-_]?key | auth (?:basic | orization)? | credentials?
        | (?:user|proxy)-id )
      \s* = \s* (?: \( \w+ \) \s* )? )
    (?: "(?: [^"\\] | \\. )* (?: " | \Z )        # a quote that is not closed goes to the end
      | '(?: [^'\\] | \\. )* (?: ' | \Z )
      | \\" .*? (?: \\" | \Z )
      | \S*? (?= _(?:channel|stream|user)= | [\s&] | \Z )
    )
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def redact(text: str) -> str:
    """`text` without the secrets of all addresses, parameters and properties in it."""
    return _hide_named(_CREDENTIALS.sub(rf"\1{HIDDEN}@", text))


def redact_words(text: str) -> str:
    """`redact` for a line of any kind, word by word: an @ further on may have nothing to do with an
    address. A password with a space in it is not known here."""
    return re.sub(r"\S+", lambda word: redact(word[0]), text)


def redact_address(text: str) -> str:
    """`text`, which should be one address, without its secrets: if there is a colon before the last
    @, only the scheme is kept of that part."""
    head, _, place = text.rpartition("@")
    if ":" not in head:
        return _hide_named(text)
    scheme = _SCHEME.match(head)
    return _hide_named(f"{scheme[0] if scheme else ''}{HIDDEN}@{place}")


def _hide_named(text: str) -> str:
    return _SECRET.sub(rf"\g<name>{HIDDEN}", text)
