"""The commands of `twostream bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.commands.run.arguments import DeviceName
from edge.text import print_line

Folder = Annotated[
    Path | None,
    typer.Option(
        "--into",
        metavar="DIR",
        help="Folder of the bundles; default: ~/.local/share/twostream/bundles.",
        show_default=False,
    ),
]


def install_command(
    source: Annotated[
        str, typer.Argument(metavar="URL_OR_PATH", help="Bundle folder, .zip or its address.")
    ],
    folder: Folder = None,
    sha256: Annotated[
        str | None, typer.Option(help="What the .zip must have, as sha256sum prints it.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Public key of minisign, or its file: URL_OR_PATH.minisig must fit."),
    ] = None,
    device: DeviceName = "auto",
) -> None:
    """Install a bundle beside the others, check it on this device and make it the current one.

    `twostream run DIR/current` runs it, and takes the next one at a reload.
    """
    from edge.commands.bundle.install import default_folder, install
    from edge.commands.bundle.package import Trust

    for line in install(source, folder or default_folder(), Trust(sha256, key), device):
        print_line(line)


def list_command(folder: Folder = None) -> None:
    """Show the bundles that are installed, and which is current."""
    from edge.commands.bundle.install import default_folder, list_bundles

    for line in list_bundles(folder or default_folder()):
        print_line(line)


def rollback_command(folder: Folder = None) -> None:
    """Make the bundle before the current one again."""
    from edge.commands.bundle.install import default_folder, rollback

    for line in rollback(folder or default_folder()):
        print_line(line)
