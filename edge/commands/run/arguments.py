"""The parameters of `twostream run`, on the command line and in a configuration file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

A = TypeVar("A")
Command = Callable[..., None]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device to run on.")]


def read_config_option(context: typer.Context, path: Path | None) -> Path | None:
    """Use the values of the file as the options' defaults."""
    if path is not None:
        from edge.commands.run.config import read_config  # slow to import

        parameters = {p.name: p for p in context.command.params if p.name}
        repeated = [name for name, p in parameters.items() if p.multiple or p.nargs == -1]  # type: ignore[attr-defined]
        context.default_map = read_config(path, list(parameters), repeated)
    return path


@dataclass(frozen=True, slots=True)
class RunArguments:
    """The parameters as given; only their types have been checked."""

    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")]
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]SOURCE...",
            help="Video files, their folders, or cameras: /dev/videoN, rtsp://, http://, csi://N.",
            show_default=False,
        ),
    ] = None
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]SOURCE", help="Add a source; repeatable."),
    ] = None
    pipeline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ELEMENTS", help="A camera described by GStreamer elements; repeatable."
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML",
            help="Read options from this file; SIGHUP reloads it.",
            is_eager=True,
            callback=read_config_option,
        ),
    ] = None
    device: DeviceName = "auto"
    no_cuda_graphs: Annotated[
        bool, typer.Option("--no-cuda-graphs", help="Launch a GPU's kernels one by one.")
    ] = False
    video: Annotated[
        Path | None, typer.Option(help="Record annotated video to this .mp4 or .mkv file.")
    ] = None
    json: Annotated[
        str | None, typer.Option(help="Write JSON lines to this file; - is standard output.")
    ] = None
    segment: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", min=0.05, help="Split --video and --json into files this long."
        ),
    ] = None
    events: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Record each action in a folder here: a clip, a picture, scores."
        ),
    ] = None
    before: Annotated[
        float,
        typer.Option(min=0, max=60, metavar="SECONDS", help="Length of a clip before its action."),
    ] = 5.0
    after: Annotated[
        float,
        typer.Option(min=0, max=60, metavar="SECONDS", help="Length of a clip after its action."),
    ] = 5.0
    keep_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0.001, help="Delete the oldest files or events above this size."
        ),
    ] = None
    keep_days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0.001, help="Delete files and events older than this."),
    ] = None
    every: Annotated[int, typer.Option(min=1, help="Run the networks on every N-th frame.")] = 1
    max_fps: Annotated[
        float | None,
        typer.Option(min=8, help="Skip frames above this rate; optical flow needs at least 8."),
    ] = None
    standby_after: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1, help="Pause the networks after this time without motion."
        ),
    ] = None
    max_frames: Annotated[int, typer.Option(min=0, help="Stop after N frames; 0: no limit.")] = 0
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="ACTION=SCORE", help="Minimum score to report an action; repeatable."),
    ] = None
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="ACTION", help="Never report this one; repeatable.")
    ] = None
    wait_for_cameras: Annotated[
        bool,
        typer.Option(
            "--wait-for-cameras", help="Also wait for cameras that are not there at the start."
        ),
    ] = False
    retries: Annotated[
        int | None, typer.Option(min=0, help="Mark a camera failed after N failures in a row.")
    ] = None
    web: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]PORT", help="Serve a live page, metrics and health."),
    ] = None
    rtsp: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]PORT", help="Serve the annotated video over RTSP."),
    ] = None
    token: Annotated[
        str,
        typer.Option(
            envvar="TWOSTREAM_TOKEN", help="Token that clients on other machines must send."
        ),
    ] = ""
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="MQTT://HOST/TOPIC", help="Publish actions to a broker; or mqtts://."),
    ] = None
    mqtt_discovery: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Announce the cameras to Home Assistant, whose prefix is usually homeassistant.",
        ),
    ] = None
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="POST actions to this URL as JSON.")
    ] = None
    webhook_pictures: Annotated[
        bool,
        typer.Option("--webhook-pictures", help="POST a picture with each action that starts."),
    ] = False


def takes(
    arguments: type[A],
) -> Callable[[Callable[[typer.Context, A], None]], Callable[..., None]]:
    """Turn a function of (context, arguments) into a command with the dataclass's fields as its
    parameters."""
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
