"""The parameters of `twostream run`, on the command line and in a configuration file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from edge.commands.run.config import read_config

A = TypeVar("A")
Command = Callable[..., None]


def read_config_option(context: typer.Context, path: Path | None) -> Path | None:
    """What the file says takes the place of the options' defaults."""
    if path is not None:
        parameters = {p.name: p for p in context.command.params if p.name}
        repeated = [name for name, p in parameters.items() if p.multiple or p.nargs == -1]  # type: ignore[attr-defined]
        context.default_map = read_config(path, list(parameters), repeated)
    return path


@dataclass(frozen=True, slots=True)
class RunArguments:
    """As they were given, not checked yet beyond their types."""

    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")]
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]SOURCE...",
            help="File, folder, /dev/videoN, rtsp://..., csi://N or test://; several at once.",
            show_default=False,
        ),
    ] = None
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]SOURCE", help="One more source; repeatable."),
    ] = None
    pipeline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ELEMENTS", help="A camera as GStreamer elements of your own; repeatable."
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML",
            help="Options from a file; read again at SIGHUP.",
            is_eager=True,
            callback=read_config_option,
        ),
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    video: Annotated[Path | None, typer.Option(help="Annotated video to record: .mp4 or .mkv.")] = (
        None
    )
    json: Annotated[str | None, typer.Option(help="JSON lines to write; - is standard output.")] = (
        None
    )
    segment: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", min=0.05, help="Cut --video and --json into files of that length."
        ),
    ] = None
    keep_gb: Annotated[
        float | None,
        typer.Option(metavar="GB", min=0.001, help="Delete the oldest of them beyond that size."),
    ] = None
    keep_days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0.001, help="Delete those that are older."),
    ] = None
    every: Annotated[int, typer.Option(min=1, help="Run the networks on each N-th frame only.")] = 1
    max_fps: Annotated[
        float | None,
        typer.Option(min=8, help="Pass over frames that come faster; flow needs 8 a second."),
    ] = None
    standby_after: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=1, help="Rest the networks after so long unmoved."),
    ] = None
    max_frames: Annotated[int, typer.Option(min=0, help="Stop after N frames; 0 is never.")] = 0
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="ACTION=SCORE", help="At which this action is told; repeatable."),
    ] = None
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="ACTION", help="Never tell this one; repeatable.")
    ] = None
    wait_for_cameras: Annotated[
        bool,
        typer.Option(
            "--wait-for-cameras", help="Wait for cameras that give nothing at the start, too."
        ),
    ] = False
    retries: Annotated[
        int | None, typer.Option(min=0, help="Give a lost camera up after N failures in a row.")
    ] = None
    web: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]PORT", help="Show it live on a page, /metrics, /healthz."),
    ] = None
    rtsp: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]PORT", help="Serve the annotated pictures over RTSP."),
    ] = None
    token: Annotated[
        str,
        typer.Option(envvar="TWOSTREAM_TOKEN", help="What others than this machine have to know."),
    ] = ""
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="MQTT://HOST/TOPIC", help="Tell actions to a broker; also mqtts://."),
    ] = None
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Post actions there, as JSON.")
    ] = None


def takes(
    arguments: type[A],
) -> Callable[[Callable[[typer.Context, A], None]], Callable[..., None]]:
    """A command whose parameters are the fields of a dataclass."""
    hints = get_type_hints(arguments, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    for field in fields(arguments):  # type: ignore[arg-type]
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        annotation = hints[field.name]
        parameters.append(
            inspect.Parameter(field.name, keyword, default=default, annotation=annotation)
        )

    def decorate(function: Callable[[typer.Context, A], None]) -> Command:
        def command(*, context: typer.Context, **values: Any) -> None:
            function(context, arguments(**values))

        command.__doc__ = function.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate
