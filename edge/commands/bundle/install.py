"""`twostream bundle install`, `list` and `rollback`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.bundle.manifest import Bundle, load_bundle
from edge.commands.bundle.package import Trust, fetch_bundle, naming
from edge.commands.bundle.store import CURRENT, PREVIOUS, BundleStore, damage
from edge.commands.verify import verify
from edge.errors import BundleError, TwostreamError
from edge.files import user_data
from edge.text import counted

_SHOWN = 12  # digits of a bundle's hash
_RELOAD = "a service that runs it takes it at a reload: systemctl --user reload twostream-NAME"


def default_folder() -> Path:
    """Of this user's bundles; it may not exist yet."""
    return user_data() / "bundles"


def install(source: str, folder: Path, trust: Trust, device: str) -> Iterator[str]:
    """Install a bundle from a path or http(s) address beside the others of a folder, check it on
    this device, and make it the current one; yields what was done, line by line.

    Raises TwostreamError if it is not what `trust` says, not a bundle, or not right on this device;
    the current bundle is then the one that it was.
    """
    store = BundleStore(folder)
    with store.changing() as temporary:
        bundle, lines = fetch_bundle(source, trust, temporary)
        yield from lines
        with naming(bundle.path, source):
            place, is_new = store.add(bundle, temporary)
        try:
            yield from verify(place, device)
        except TwostreamError as fault:
            if is_new:
                store.remove(place)
            raise type(fault)(f"{fault}; it is not installed, {_kept(store)}") from None
        store.use(place)
    yield f"{folder / CURRENT} is {_title(bundle, place)}"
    yield _RELOAD


def rollback(folder: Path) -> Iterator[str]:
    """Make the previous bundle the current one; a second rollback undoes the first.

    Raises BundleError if there is none, or it cannot be opened.
    """
    store = BundleStore(folder)
    place = store.linked(PREVIOUS)
    if place is None:
        raise BundleError(f"{folder}: has no previous bundle to go back to")
    with store.changing():
        if fault := damage(place):
            raise BundleError(f"{fault}; the current bundle stays, install this one again")
        bundle = load_bundle(place)
        store.use(place)
    yield f"{folder / CURRENT} is {_title(bundle, place)} again"
    yield _RELOAD


def list_bundles(folder: Path) -> Iterator[str]:
    """One line for each bundle of a folder, the newest last."""
    store = BundleStore(folder)
    marks = {store.linked(name): name for name in (PREVIOUS, CURRENT)}
    places = store.places()
    for place in places:
        fault = damage(place)
        text = f"is damaged: {fault}" if fault else _title(load_bundle(place), place)
        size = sum(file.stat().st_size for file in place.iterdir())
        yield f"{marks.get(place, ''):8}  {text}, {size / 1e6:.1f} MB"
    if not places:
        yield f"{folder}: has no bundles; twostream bundle install puts them there"


def _title(bundle: Bundle, place: Path) -> str:
    return f"{place.name[:_SHOWN]} {bundle.manifest.name} of {_actions(bundle)}"


def _actions(bundle: Bundle) -> str:
    return counted(len(bundle.manifest.classes), "action")


def _kept(store: BundleStore) -> str:
    place = store.linked(CURRENT)
    return "and there is no other" if place is None else f"{place.name[:_SHOWN]} stays current"
