"""Options that tools share, each written once."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lnqtools import __version__
from lnqtools.cli._batch import STREAM, Batch
from lnqtools.cli._names import CasePattern
from lnqtools.cli._tables import FORMATS, PAPER_FORMATS
from lnqtools.cli._tool import SharedOption, Tool, say

shared_option = functools.partial(click.option, cls=SharedOption)

PATH = click.Path(readable=False)
"""A path as it is given: whoever reads it says what is wrong with it, and the others are done."""


def command(name: str, kind: type[Tool] = Tool, **attributes) -> Callable:
    """Make a function a tool of the suite."""
    settings = {"help_option_names": ["-h", "--help"], "show_default": True}

    def decorate(function: Callable) -> click.Command:
        function = click.version_option(
            __version__, "--version", prog_name=name, message="%(prog)s %(version)s"
        )(function)
        return click.command(name, cls=kind, context_settings=settings, **attributes)(function)

    return decorate


def was_given(name: str) -> bool:
    """Tell whether the command line names a parameter, with its default or not."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def refuse_idle_options(
    shown: str, used_by: Mapping[str, Collection[str]], hints: Mapping[str, str] | None = None
) -> None:
    """Refuse options on which the table that ``--table`` chose does not depend.

    Parameters
    ----------
    shown : str
        The table.
    used_by : mapping
        Parameter → tables that depend on it; all do on those that are not in it.
    hints : mapping, optional
        Parameter → what the message says after the table's name.

    Raises
    ------
    click.UsageError
        Such an option was given.
    """
    for parameter in click.get_current_context().command.params:
        name = parameter.name or ""
        if was_given(name) and shown not in used_by.get(name, (shown,)):
            hint = (hints or {}).get(name, "")
            raise click.UsageError(f"{parameter.opts[0]} changes nothing in --table {shown}{hint}")


# Values


class ZYX(tuple):
    """Three numbers in the arrays' order, given and recorded as x, y, z."""


class XYZ(click.ParamType):
    """One number, or three for x, y, z; handed on as (z, y, x).

    The order is turned round here and nowhere else.
    """

    name = "xyz"

    def __init__(self, kind: type = float, minimum: float | None = None, three: bool = False):
        self.kind, self.minimum, self.three = kind, minimum, three

    def get_metavar(self, param, ctx=None) -> str:
        """Return what stands for the value in the help."""
        return "X,Y,Z"

    def convert(self, value, param, ctx):
        """Parse ``5`` or ``5,5,3``."""
        if not isinstance(value, str):
            return value
        try:
            numbers = [self.kind(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not one number or three with commas between", param, ctx)
        if len(numbers) == 1 and not self.three:
            numbers *= 3
        if len(numbers) != 3:
            self.fail(f"{value!r} must be three numbers x,y,z", param, ctx)
        if self.minimum is not None and not all(self.minimum <= n < float("inf") for n in numbers):
            self.fail(f"{value!r} must not be below {self.minimum:g}", param, ctx)
        return ZYX(reversed(numbers))


class FiniteRange(click.FloatRange):
    """A real number in a range; click alone takes NaN for a member of any."""

    def convert(self, value, param, ctx):
        """Parse a number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


HU = FiniteRange(-32768, 32767)


class EmptyPolicy(click.ParamType):
    """What is done with values that are undefined: a word, or a number of mm."""

    name = "empty"

    def __init__(self, *words: str):
        self.words = words

    def get_metavar(self, param, ctx=None) -> str:
        """Return what stands for the value in the help."""
        return "|".join((*self.words, "MM"))

    def convert(self, value, param, ctx):
        """Parse ``worst`` or ``115.27``."""
        if value in self.words:
            return value
        try:
            return FiniteRange(min=0).convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither {', '.join(self.words)} nor a number ≥ 0", param, ctx)


class Hit(click.ParamType):
    """What makes a lesion a hit: an IoU with its partner, or one voxel of overlap (0)."""

    name = "hit"

    def get_metavar(self, param, ctx=None) -> str:
        """Return what stands for the value in the help."""
        return "voxel|IOU"

    def convert(self, value, param, ctx):
        """Parse ``voxel`` or ``0.5``."""
        if value == "voxel":
            return 0.0
        try:
            return FiniteRange(min=0, max=1, min_open=True).convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither voxel nor a number above 0 to 1", param, ctx)


class Window(click.ParamType):
    """Two CT numbers: what is black and what is white."""

    name = "window"

    def get_metavar(self, param, ctx=None) -> str:
        """Return what stands for the value in the help."""
        return "LOW,HIGH"

    def convert(self, value, param, ctx):
        """Parse ``-160,240``."""
        if not isinstance(value, str):
            return value
        try:
            low, high = (HU.convert(part, param, ctx) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not two numbers with a comma between", param, ctx)
        if low >= high:
            self.fail(f"{value!r}: the first number must be below the second", param, ctx)
        return low, high


class LabelValues(click.ParamType):
    """Values of a mask: ``1,3`` or ``1,5-8``, in order; ``none`` is none of them, if it may be."""

    name = "values"
    most = 65535
    highest = 2**32 - 1

    def __init__(self, or_none: bool = False):
        self.or_none = or_none

    def get_metavar(self, param, ctx=None) -> str:
        """Return what stands for the value in the help."""
        return "N,...|none" if self.or_none else "N,..."

    def convert(self, value, param, ctx):
        """Parse ``1,5-8``."""
        if not isinstance(value, str):
            return value
        if self.or_none and value == "none":
            return ()
        chosen: set[int] = set()
        for part in value.split(","):
            first, _, last = part.partition("-")
            if not (first.isdecimal() and (last or first).isdecimal()):
                self._fail_to_read(value, param, ctx)
            low, high = int(first), int(last or first)
            if not (1 <= low <= high <= self.highest and not part.endswith("-")):
                self._fail_to_read(value, param, ctx)
            if high - low >= self.most:
                self.fail(f"{value!r} are more than {self.most} values", param, ctx)
            chosen.update(range(low, high + 1))
        return tuple(sorted(chosen))

    def _fail_to_read(self, value: str, param, ctx) -> None:
        also = ", nor none" if self.or_none else ""
        self.fail(f"{value!r} is not a list like 1,3 or 1-8{also}", param, ctx)


class Orientation(click.ParamType):
    """Three letters that say to where the axes x, y and z run."""

    name = "orientation"

    def get_metavar(self, param, ctx=None) -> str:
        """Return what stands for the value in the help."""
        return "CODE"

    def convert(self, value, param, ctx):
        """Parse ``LPS``."""
        from lnqtools.images.grid import is_orientation

        letters = value.upper()
        if not is_orientation(letters):
            self.fail(
                f"{value!r} is not one of L and R, one of A and P and one of I and S, as LPS",
                *(param, ctx),
            )
        return letters


class Shard(click.ParamType):
    """``I/N``: the part of the sorted inputs that this process takes."""

    name = "shard"

    def get_metavar(self, param, ctx=None) -> str:
        """Return what stands for the value in the help."""
        return "I/N"

    def convert(self, value, param, ctx):
        """Parse ``0/8``."""
        if not isinstance(value, str):
            return value
        part, _, count = value.partition("/")
        if not (part.isdecimal() and count.isdecimal() and int(part) < int(count)):
            self.fail(f"{value!r} is not I/N with 0 ≤ I < N", param, ctx)
        return int(part), int(count)


# Inputs and outputs

ASSUME_ORIENTATION_OPTION = shared_option(
    "--assume-orientation",
    type=Orientation(),
    help="To where the axes x, y, z run in images whose headers do not say it, as LPS.",
)
CASE_PATTERN_OPTION = shared_option(
    "--case-pattern",
    type=CasePattern(),
    help="Find the case name in the path of an image, and search directories with their folders."
    "  [default: the case is called as its file]",
)
INPUT_OPTIONS = (
    click.argument("images", nargs=-1, metavar="[IMAGE]...", type=PATH),
    shared_option(
        "-T",
        "--files-from",
        type=PATH,
        metavar="FILE",
        help="Read more inputs from FILE, a path a line ('-': standard input).",
    ),
    shared_option(
        "-0", "--null", is_flag=True, help="Paths read and printed end with NUL, not a line end."
    ),
    shared_option(
        "--shard",
        type=Shard(),
        help="Take every Nth of the sorted inputs, from the Ith on (from 0): for job arrays.",
    ),
    ASSUME_ORIENTATION_OPTION,
    CASE_PATTERN_OPTION,
)
JOBS_OPTION = shared_option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Work on N cases at once; the results are the same for any N.",
)
VOICE_OPTIONS = (
    shared_option("-q", "--quiet", is_flag=True, help="No warnings and no progress."),
    shared_option("-v", "--verbose", is_flag=True, help="Show where an unexpected error arose."),
)
FORCE_OPTION = shared_option("-f", "--force", is_flag=True, help="Replace outputs that exist.")
SKIP_OPTION = shared_option(
    "-s",
    "--skip-existing",
    "skip",
    is_flag=True,
    help="Keep outputs made with the same options from the same content, and go on.",
)
TABLE_OUTPUT_OPTION = shared_option(
    "-o",
    "--output",
    "table",
    type=PATH,
    metavar="FILE",
    default=STREAM,
    help="Write the table to FILE ('-': standard output).",
)
OUTPUT_DIR_OPTION = shared_option(
    "-O",
    "--output-dir",
    type=PATH,
    metavar="DIR",
    help="Write CASE.nii.gz into DIR for each input.",
)
FOLDER_OPTION = shared_option(
    "-O",
    "--output-dir",
    "folder",
    type=PATH,
    metavar="DIR",
    required=True,
    help="Make the folder DIR.",
)
OUTPUT_OPTIONS = (
    shared_option(
        "-o",
        "--output",
        type=PATH,
        metavar="FILE",
        help="Write the result of the one input to FILE ('-': standard output).",
    ),
    OUTPUT_DIR_OPTION,
    shared_option("--nii", is_flag=True, help="With -O: write uncompressed .nii, which is faster."),
    FORCE_OPTION,
    SKIP_OPTION,
)


def image_tool(
    *unrecorded: str, parallel: bool = True, without_images: str | None = None
) -> Callable:
    """Give a command the batch contract: images in, images out.

    The function gets a :class:`Batch` and the tool's own options.

    Parameters
    ----------
    *unrecorded : str
        Own options that leave the images unchanged (tables, devices): not recorded in them.
    parallel : bool
        Whether the tool has ``--jobs``.
    without_images : str, optional
        Own flag with which the tool writes no images, so that -o and -O make no sense.
    """
    running = (JOBS_OPTION, *VOICE_OPTIONS) if parallel else VOICE_OPTIONS
    return _with_batch(
        (*INPUT_OPTIONS, *OUTPUT_OPTIONS, *running),
        unrecorded,
        lambda parameters: not parameters.get(without_images),
    )


def table_tool(
    more_images: Callable[[dict], Sequence[str]] | None = None, same_names: bool = False
) -> Callable:
    """Give a command the part of the contract that fits a tool that makes a table.

    Parameters
    ----------
    more_images : callable, optional
        Takes all options and returns the images that the tool's own name, which are inputs too.
    same_names : bool
        Whether inputs may have the same case name.
    """
    options = (
        *INPUT_OPTIONS,
        TABLE_OUTPUT_OPTION,
        FORCE_OPTION,
        JOBS_OPTION,
        *VOICE_OPTIONS,
    )
    return _with_batch(
        options, (), lambda parameters: None, more_images=more_images, same_names=same_names
    )


def folder_tool() -> Callable:
    """Give a command the part of the contract that fits a tool that makes one folder of all cases.

    Its function gets the folder as ``folder``.
    """
    options = (*INPUT_OPTIONS, FOLDER_OPTION, FORCE_OPTION, JOBS_OPTION, *VOICE_OPTIONS)
    return _with_batch(options, ("folder",), lambda parameters: None)


def _with_batch(
    options: tuple,
    unrecorded: tuple[str, ...],
    images_wanted: Callable[[dict], bool | None],
    *,
    more_images: Callable[[dict], Sequence[str]] | None = None,
    **rules: bool,
) -> Callable:
    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapper(**parameters):
            given = {name: parameters.pop(name) for name in SHARED_NAMES if name in parameters}
            recorded = {k: v for k, v in parameters.items() if k not in unrecorded}
            more = more_images({**given, **parameters}) if more_images else ()
            batch = make_batch({**given, **rules}, recorded, images_wanted(parameters), more)
            return function(batch, **parameters)

        for option in reversed(options):
            wrapper = option(wrapper)
        return wrapper

    return decorate


SHARED_NAMES = (
    *("images", "files_from", "null", "shard", "case_pattern", "output", "output_dir", "nii"),
    *("force", "skip", "jobs", "quiet", "verbose", "assume_orientation"),
)


def make_batch(
    given: dict[str, Any],
    recorded: dict[str, Any],
    images_wanted: bool | None,
    more_images: Sequence[str] = (),
) -> Batch:
    """Resolve what was said on the command line into a batch.

    Parameters
    ----------
    given, recorded : dict
        Values of the shared options and of the tool's own.
    images_wanted : bool or None
        Whether the run writes images; None for tools that never do.
    more_images : sequence of str
        Inputs that own options name; one that is named otherwise too is an input once.

    Raises
    ------
    click.UsageError
        For no input, no output, more than one use of standard input, or options that exclude
        each other.
    """
    sources = list(given.pop("images"))
    if given["assume_orientation"] is not None:
        recorded = {**recorded, "assume_orientation": given["assume_orientation"]}
    files_from, shard = given.pop("files_from"), given.pop("shard")
    if files_from is not None:
        sources += read_paths(files_from, given["null"])
    named = {file_identity(source) for source in sources}
    sources += [path for path in more_images if file_identity(path) not in named]
    if not sources and files_from is not None:
        raise click.UsageError(f"no input: the list -T {files_from} is empty")
    if not sources:
        raise click.UsageError("no input: name images, or give a list with -T")
    several = [path for value in recorded.values() if isinstance(value, tuple) for path in value]
    if "" in (*sources, *given.values(), *recorded.values(), *several):
        raise click.UsageError("a path is empty (an unset variable?)")
    if sources.count(STREAM) + (files_from == STREAM) > 1:
        raise click.UsageError("standard input can be read only once")
    if shard is not None:
        others = sorted(sources)
        sources = others[shard[0] :: shard[1]]
        del others[shard[0] :: shard[1]]
        given["other_shards"] = tuple(others)
        if not sources:
            raise click.exceptions.Exit(0)  # more shards than cases: nothing to do here
    if images_wanted:
        _check_output(given, sources)
    elif images_wanted is False and (given["output"] or given["output_dir"]):
        raise click.UsageError("only a table was asked for: -o and -O make no sense")
    return Batch(
        tool=click.get_current_context().command.name or "",
        sources=sources,
        options=_plain_options(recorded),
        at_default=frozenset(name for name in recorded if not was_given(name)),
        **given,
    )


def file_identity(path: str) -> tuple[str, str]:
    """Return what two spellings of one input share: where its file truly is, and its name."""
    return os.path.realpath(path), os.path.basename(path)  # noqa: PTH119  as the case is named


def _check_output(given: dict[str, Any], sources: list[str]) -> None:
    output, output_dir = given["output"], given["output_dir"]
    if (output is None) == (output_dir is None):
        raise click.UsageError("say where to write: -o FILE for one input, or -O DIR for many")
    if output is not None:
        if len(sources) > 1:
            raise click.UsageError(f"-o takes one input, there are {len(sources)}; use -O DIR")
        if output != STREAM and not output.lower().endswith((".nii", ".nii.gz")):
            raise click.UsageError(
                f"{output}: an output must be named .nii.gz or .nii, or be - for standard output"
            )
        if output == STREAM and sys.stdout.isatty():
            raise click.UsageError("an image cannot go to a terminal; redirect standard output")


def read_bytes(path: str) -> bytes:
    """Return what a file or a pipe holds; ``-`` is standard input, a closed one is empty."""
    if path == STREAM:
        return b"" if sys.stdin is None else sys.stdin.buffer.read()
    with open(path, "rb") as stream:  # noqa: PTH123  '-T <(find …)' is no regular file
        return stream.read()


def read_paths(listing: str, null: bool) -> list[str]:
    """Read a list of paths, one a line or NUL-ended; ``-`` is standard input."""
    try:
        content = read_bytes(listing)
    except OSError as error:
        raise click.UsageError(f"-T {listing}: {error.strerror or error}") from None
    if not null and b"\0" in content:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise click.UsageError(f"-T {listing} is UTF-16, as of PowerShell: save it as UTF-8")
        raise click.UsageError(f"-T {listing} holds NUL bytes: with NUL-ended paths say -0, too")
    if null and b"\0" not in content and b"\n" in content:
        raise click.UsageError(f"-T {listing} holds no NUL: with a path a line leave out -0")
    separator = b"\0" if null else b"\n"
    paths = [os.fsdecode(path) for path in content.split(separator) if path]
    return paths if null else _without_windows_ends(paths, listing)


def _without_windows_ends(paths: list[str], listing: str) -> list[str]:
    """Return paths without the returns that end the lines of a list from Windows, and say so.

    A name may end with a return, so they are kept if no file is found without them.
    """
    ended = [path for path in paths if path.endswith("\r")]
    if not any(os.path.lexists(path[:-1]) and not os.path.lexists(path) for path in ended):
        return paths
    context = click.get_current_context()
    if not context.params.get("quiet"):
        say(context.command.name, f"warning: -T {listing} has line ends of Windows, taken as such")
    return [stripped for path in paths if (stripped := path.removesuffix("\r"))]


def _plain_options(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return options as JSON will give them back, paths in one spelling."""
    command = click.get_current_context().command
    paths = {p.name for p in command.params if isinstance(p.type, click.Path)}
    return {
        name: _plain(_in_one_spelling(value) if name in paths else value)
        for name, value in recorded.items()
    }


def _in_one_spelling(paths: str | Sequence[str] | None) -> str | list[str] | None:
    """Return an option's path, or its paths if it may be given several times, normalised."""
    if paths is None or isinstance(paths, str):
        return os.path.normpath(paths) if paths else paths
    return [os.path.normpath(path) for path in paths]


def _plain(value: Any) -> Any:
    """Return an option's value as JSON will give it back."""
    if isinstance(value, ZYX):
        return list(reversed(value))
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(v) for v in value]
    return value


FORMAT_OPTION = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Form of the table.  [default: as the file's suffix says, else tsv]",
)
PAPER_FORMAT_OPTION = click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS, *PAPER_FORMATS]),
    help="Form of the table; markdown and latex are rounded, for people.  "
    "[default: as the file's suffix says, else tsv]",
)
DEGENERATE_OPTION = click.option(
    "--degenerate",
    type=click.Choice(["drop", "keep", "recist"]),
    default="drop",
    help="Components too flat for the metric: drop (as the paper), keep, or judge by recist.",
)
METRIC_OPTION = click.option(
    "--metric",
    type=click.Choice(
        [
            "ellipsoid",
            "ellipsoid-corrected",
            "recist",
            "recist-caliper",
            "inscribed",
            "feret-min",
            "sphere",
        ]
    ),
    default="ellipsoid",
    help="Definition of the shortest diameter (see the man page); ellipsoid is the paper's.",
)
TOLERANCE_OPTION = click.option(
    "--tolerance",
    "tolerances",
    type=FiniteRange(min=0),
    multiple=True,
    default=(1.0, 2.0),
    metavar="MM",
    help="Tolerance of the surface Dice (nsd); may be given several times.",
)
EDGE_OPTION = click.option(
    "--edge",
    type=click.Choice(["surface", "open"]),
    default="surface",
    help="Whether a mask's voxels at the image's edge belong to its surface (surface) or not "
    "(open, as in the LNQ2023 evaluation).",
)
PRESET_OPTION = click.option(
    "--preset",
    type=click.Choice(["lnq2023", "medpy", "monai"]),
    help="Only what this evaluation or package computes, as it defines and names it, instead.",
)
RESAMPLE_OPTION = click.option(
    "--resample-prediction",
    "resampling",
    type=click.Choice(["nearest"]),
    help="Bring a prediction on another grid onto its reference's; without it an error.",
)
HIT_OPTION = click.option(
    "--hit",
    "least_iou",
    type=Hit(),
    default="0.5",
    help="What makes a lesion found: the IoU with its partner, or one voxel of overlap.",
)
RESAMPLES_OPTION = click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=10000,
    metavar="N",
    help="Samples that the bootstrap draws.",
)
SEED_OPTION = click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="S", help="Of the bootstrap."
)
WINDOW_OPTION = click.option(
    "--window",
    type=Window(),
    default="-160,240",
    help="HU that are shown as black and as white; the mediastinal window.",
)
ENLARGED_OPTION = click.option(
    "--enlarged-mm",
    type=FiniteRange(min=0, min_open=True),
    default=10.0,
    metavar="MM",
    help="Least diameter of an enlarged node.",
)
CLASSES_OPTION = click.option(
    "--classes",
    type=click.Choice(["auto", "v1", "v2"]),
    default="auto",
    help="TotalSegmentator version whose class numbers a map holds; auto: as the map says.",
)
REPLACE_NAN_OPTION = click.option(
    "--replace-nan",
    type=HU,
    metavar="HU",
    help="Value for voxels that are NaN or infinite; without it such a CT is refused.",
)
VALUES_OPTION = click.option(
    "--values",
    type=LabelValues(),
    help="Values of a mask that are foreground, as 1,3 or 1-8.  [default: every value but 0]",
)
INSTANCES_OPTION = click.option(
    "--instances",
    is_flag=True,
    help="Masks hold numbered nodes: each value is one component, whether it touches others or "
    "lies in several pieces.",
)
TRUST_HU_OPTION = click.option(
    "--trust-hu",
    is_flag=True,
    help="Take CTs whose values do not look like HU all the same.",
)


def parse_structures(context, parameter, value: str) -> str:
    """Put the lines of each ``@FILE`` in its place; ``#`` begins a comment."""
    parts: list[str] = []
    for part in (p.strip() for p in value.split(",")):
        if not part.startswith("@"):
            parts.append(part)
            continue
        try:
            lines = Path(part[1:]).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"cannot read {part}: {error}") from None
        parts += [line.split("#")[0].strip() for line in lines]
    return ",".join(part for part in parts if part)


def connectivity_option(text: str) -> Callable:
    """Make the option that says which voxels are neighbours."""
    return click.option(
        "--connectivity",
        type=click.Choice(["6", "18", "26"]),
        default="6",
        callback=lambda context, parameter, value: int(value),
        help=text,
    )


LUNGS_OPTION = click.option(
    "--lungs",
    type=PATH,
    default="hu",
    metavar="hu|totalsegmentator|none|FILE|DIR",
    help="Where the lungs are: found from HU alone (hu) or by TotalSegmentator, a lung mask or "
    "TotalSegmentator map (FILE|DIR), or no crop to the lungs (none).",
)
MARGIN_OPTION = click.option(
    "--margin",
    type=XYZ(minimum=0),
    default="0",
    help="Widen the lungs' box by this many mm on every side (one number, or x,y,z).",
)
