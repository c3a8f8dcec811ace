"""What every tool is: a command with one voice, exit statuses, and an end by signal."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from lnqtools import __version__
from lnqtools.cli._rules import Declared, Option, check_rules
from lnqtools.cli._tables import decide_form
from lnqtools.errors import LnqError, MissingExtraError
from lnqtools.files.atomic import remove_unfinished

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal that ends the process, after everything on the way out was cleaned up."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


class ResultsLostError(Exception):
    """Standard output takes no more: a full disk."""


class Tool(click.Command):
    """A command that speaks and ends as the batch contract says.

    One line on standard error for each problem; status 0 if all was done, 1 if some input
    failed, 2 for wrong usage; a signal ends the process by that signal, quietly but for what
    `after_ctrl_c` says.
    """

    def parse_args(self, ctx, args):
        """Read the command line; where a table goes decides its form."""
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:  # a shell completes the line
            with _said_by(ctx):
                check_rules(ctx)
        decide_form(ctx)
        return rest

    def main(self, args=None, *ignored, **extra) -> NoReturn:  # type: ignore[override]
        """Run the tool and end the process."""
        self._main_shell_completion({}, str(self.name))
        _heed_signals()
        _hide_pydicom()
        if not sys.warnoptions:  # python -W shows them
            warnings.simplefilter("ignore")  # as of voxels of 1e38: they are not for people
        if sys.stderr is None:  # closed
            sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  open to the end
        if sys.stdout is None:
            say(self.name, "standard output is closed; results go there (>/dev/null drops them)")
            sys.exit(1)
        try:
            status = self._run(sys.argv[1:] if args is None else list(args))
            sys.stdout.flush()
            stop_if_interrupted()
            _heed_no_more()
        except BrokenPipeError:
            die_by(signal.SIGPIPE)
        except Interrupted as interrupted:
            die_by(interrupted.signum)
        except (ResultsLostError, OSError) as error:  # flushing it again would fail again
            say(self.name, f"cannot write the results: {getattr(error, 'strerror', None) or error}")
            os._exit(1)
        sys.exit(status)

    def _run(self, args: list[str]) -> int:
        try:
            with self._begun(args) as context:
                self.invoke(context)
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.UsageError as error:
            message = " ".join(error.format_message().split()).removesuffix(".")
            whose = error.ctx.command_path if error.ctx else self.name
            say(self.name, f"{message} (see {whose} --help)")
            return 2
        except (click.ClickException, LnqError) as error:
            say(self.name, str(error))
            return 1
        except MemoryError:
            say(self.name, "out of memory")
            return 1
        except (BrokenPipeError, ResultsLostError):
            raise
        except Exception as error:  # noqa: BLE001  an accident is one line too; -v shows the rest
            stop_if_interrupted()
            say(self.name, accident(error))
            if {"-v", "--verbose"} & set(args):
                show_traceback(traceback.format_exc())
            return 1
        return 0

    def _begun(self, args: list[str]) -> click.Context:
        """Return the context of a run; --help and --version write, and end it."""
        try:
            return self.make_context(self.name, args)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename is not None:
                raise
            raise ResultsLostError(error.strerror or error) from None

    def format_options(self, ctx, formatter):
        """Write the tool's own options before those that all tools share."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                (shared if isinstance(parameter, SharedOption) else own).append(record)
        for title, records in (("Options", own), ("Batch options", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


@contextmanager
def _said_by(context: click.Context) -> Iterator[None]:
    """Have a usage error within the block name the command that was misused."""
    try:
        yield
    except click.UsageError as error:
        error.ctx = error.ctx or context
        raise


class ToolGroup(Tool, click.Group):
    """A tool of several commands, each with options of its own; one voice and one end for all."""

    command_class = Tool

    def format_options(self, ctx, formatter):
        """Write the options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


class SharedOption(Option):
    """An option of the batch contract."""


_received: list[int] = []
"""Signals that came. A finalizer or callback may swallow the exception; this remembers."""


def _heed_signals() -> None:
    """Turn the signals that end a process into an exception, so that everything is cleaned up."""
    for signum in ENDING_SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup stays in force
            signal.signal(signum, _interrupt)
    sys.unraisablehook = _report_unraisable


def _heed_no_more() -> None:
    """Let a signal end the process at once: all is done, and nobody would catch the exception."""
    for signum in ENDING_SIGNALS:
        if signal.getsignal(signum) is _interrupt:
            signal.signal(signum, signal.SIG_DFL)


def _hide_pydicom() -> None:
    """Make pydicom look not installed: nnU-Net's nibabel would import it, and nobody needs it."""
    sys.modules.setdefault("pydicom", None)  # type: ignore[arg-type]


def _report_unraisable(unraisable) -> None:
    """Say nothing of a signal that came inside a finalizer; it is remembered."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


def _interrupt(signum, frame) -> NoReturn:
    _received.append(signum)
    raise Interrupted(signum)


def stop_if_interrupted() -> None:
    """Raise Interrupted if a signal came whose exception was lost on the way."""
    if _received:
        raise Interrupted(_received[0])


@contextmanager
def after_ctrl_c(tool: str | None, way_on: Callable[[], str | None], quiet: bool) -> Iterator[None]:
    """Say how to go on if Ctrl-C ends the block, and there is something to go on from.

    Parameters
    ----------
    tool : str
    way_on : callable
        Returns the words, or None if the next run would only begin.
    quiet : bool
        Say nothing.
    """
    try:
        try:
            yield
        finally:  # of an interrupt within torch.save, torch makes an error of its own
            stop_if_interrupted()
    except Interrupted as interrupted:
        if interrupted.signum == signal.SIGINT and not quiet and (words := way_on()):
            say(tool, f"interrupted: {words}")
        raise


def again_with(force: bool) -> str:
    """Return by which option the same command goes on."""
    return "-s instead of -f" if force else "-s"


def die_by(signum: int) -> NoReturn:
    """End the process by a signal, as its parent expects of it."""
    for another in ENDING_SIGNALS:
        signal.signal(another, signal.SIG_IGN)  # one more changes nothing
    remove_unfinished()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # not reached unless the signal is blocked


def say(tool: str | None, message: str, path: str | Path | None = None) -> None:
    """Write one line to standard error: ``tool: path: message``."""
    parts = [part for part in (tool, path and printable(path), printable(message)) if part]
    clear_progress()
    sys.stderr.write(": ".join(parts) + "\n")
    sys.stderr.flush()


def accident(error: Exception) -> str:
    """Return the message for an unforeseen error; for one of the system's, with the path."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)}: {error.strerror or error}"
    return f"failed unexpectedly ({type(error).__name__}: {error}); -v shows where"


def printable(text: str | Path) -> str:
    """Return text in which line ends and other control characters are written as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
        for c in str(text)
    )


def show_traceback(text: str) -> None:
    """Write where an unexpected error arose; file names in it cannot drive the terminal."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in text.splitlines()))


def emit(content: str, end: bytes = b"\n", *, cells: bool = False) -> None:
    """Write one result to standard output; file names keep the bytes they have on disk.

    A terminal would obey control characters in them: there they are written as escapes, but for
    the tabs between the ``cells`` of a table.
    """
    clear_progress()
    if sys.stdout.isatty():
        parts = content.split("\t") if cells else [content]
        content = "\t".join(map(printable, parts))
    try:
        sys.stdout.buffer.write(os.fsencode(content) + end)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ResultsLostError(error.strerror or error) from None


def show_progress(message: str) -> None:
    """Show a progress line, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{printable(message)}")
        sys.stderr.flush()


def clear_progress() -> None:
    """Remove the progress line before something is written for good."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


shared_option = functools.partial(Declared, cls=SharedOption)


def module_of(tool: str) -> str:
    """Return the module of a tool."""
    return f"lnqtools.cli.{tool.removeprefix('lnq-').replace('-', '_')}"


def help_end(example: str) -> str:
    """Return what a command's help ends with: a call, and where to read on."""
    return f"\b\nExample: {example}\nMore: man {example.split()[0]}"


def command(name: str, kind: type[Tool] = Tool, *, example: str, **attributes) -> Callable:
    """Make a function a tool of the suite; its help ends with an example."""
    settings = {"help_option_names": ["-h", "--help"], "show_default": True}

    def decorate(function: Callable) -> click.Command:
        function = click.version_option(
            __version__, "--version", prog_name=name, message="%(prog)s %(version)s"
        )(function)
        return click.command(
            name, cls=kind, context_settings=settings, epilog=help_end(example), **attributes
        )(function)

    return decorate


def was_given(name: str) -> bool:
    """Tell whether the command line names a parameter, with its default or not."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


class about:  # noqa: N801  reads as a phrase: with about(path)
    """Put a path in front of the message of an error about that file."""

    def __init__(self, path: str | Path):
        self.path = path

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind, error, trace) -> None:
        """Name the file in an LnqError."""
        if isinstance(error, LnqError) and not isinstance(error, MissingExtraError):
            raise LnqError(f"{self.path}: {error}") from None
