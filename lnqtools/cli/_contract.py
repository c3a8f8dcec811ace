"""Options of the batch contract, and the batch that they make."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from lnqtools.cli._batch import Batch
from lnqtools.cli._companions import Companions
from lnqtools.cli._making import Making
from lnqtools.cli._names import (
    STREAM,
    CasePattern,
    images_in,
    not_plain_files,
    refuse_channels,
    same_name,
)
from lnqtools.cli._plan import IMAGE, make_plan
from lnqtools.cli._tool import say, shared_option, was_given
from lnqtools.cli._values import PATH, ZYX, Orientation, Shard

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
    click.argument("images", nargs=-1, metavar="[IMAGE|DIR]...", type=PATH),
    shared_option(
        "-T",
        "--files-from",
        type=PATH,
        metavar="FILE",
        help="Read more inputs from FILE, one path per line ('-': standard input).",
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
    not_with="-f",
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
    *unrecorded: str,
    parallel: bool = True,
    without_images: str | None = None,
    more_outputs: Mapping[str, str] | None = None,
    segmentations: bool = False,
) -> Callable:
    """Give a command the batch contract: images in, images out.

    The function gets a `Batch` and the tool's own options.

    Parameters
    ----------
    *unrecorded : str
        Own options that leave the images unchanged (tables, devices): not recorded in them.
    parallel : bool
        Whether the tool has ``--jobs``.
    without_images : str, optional
        Own flag with which the tool writes no images, so that -o and -O make no sense.
    more_outputs : mapping, optional
        What is made beside the image → the own option that says in which directory.
    segmentations : bool
        Whether -o may be named .seg.nrrd.
    """
    running = (JOBS_OPTION, *VOICE_OPTIONS) if parallel else VOICE_OPTIONS
    return _with_batch(
        (*INPUT_OPTIONS, *OUTPUT_OPTIONS, *running),
        unrecorded,
        images_wanted=lambda parameters: not parameters.get(without_images),
        more_outputs=more_outputs,
        suffixes=(".nii.gz", ".nii", *([".seg.nrrd"] if segmentations else [])),
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
    return _with_batch(options, more_images=more_images, same_names=same_names)


def image_inputs(*unrecorded: str) -> Callable:
    """Give a command the inputs of the contract; what it writes, and where, is its own affair.

    The function gets a `Batch` whose cases have no outputs yet.

    Parameters
    ----------
    *unrecorded : str
        Own options that leave what is written unchanged.
    """
    options = (*INPUT_OPTIONS, FORCE_OPTION, SKIP_OPTION, JOBS_OPTION, *VOICE_OPTIONS)
    return _with_batch(options, unrecorded)


def folder_tool() -> Callable:
    """Give a command the part of the contract that fits a tool that makes one folder of all cases.

    Its function gets the folder as ``folder``.
    """
    options = (*INPUT_OPTIONS, FOLDER_OPTION, FORCE_OPTION, JOBS_OPTION, *VOICE_OPTIONS)
    return _with_batch(options, ("folder",))


def _with_batch(
    options: tuple,
    unrecorded: tuple[str, ...] = (),
    *,
    images_wanted: Callable[[dict], bool] | None = None,
    more_outputs: Mapping[str, str] | None = None,
    more_images: Callable[[dict], Sequence[str]] | None = None,
    same_names: bool = False,
    suffixes: tuple[str, ...] = (".nii.gz", ".nii"),
) -> Callable:
    """Give a command options, and turn what they say into the batch that it gets."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapper(**parameters):
            shared = {name: parameters.pop(name) for name in SHARED_NAMES if name in parameters}
            wanted = images_wanted(parameters) if images_wanted else None
            more = more_images({**shared, **parameters}) if more_images else ()
            recorded = {k: v for k, v in parameters.items() if k not in unrecorded}
            places = {what: parameters[of] for what, of in (more_outputs or {}).items()}
            batch = make_batch(
                *(shared, recorded, wanted, more, places),
                same_names=same_names,
                suffixes=suffixes,
            )
            return function(batch, **parameters)

        for option in reversed(options):
            wrapper = option(wrapper)
        return wrapper

    return decorate


SHARED_NAMES = (
    *("images", "files_from", "null", "shard", "case_pattern", "output", "output_dir", "nii"),
    *("force", "skip", "jobs", "quiet", "verbose", "assume_orientation"),
)
RUNNING_NAMES = ("force", "skip", "jobs", "null", "quiet", "verbose", "assume_orientation")


def make_batch(
    shared: dict[str, Any],
    recorded: dict[str, Any],
    images_wanted: bool | None,
    more_images: Sequence[str] = (),
    more_outputs: Mapping[str, str | None] | None = None,
    *,
    same_names: bool = False,
    suffixes: tuple[str, ...] = (".nii.gz", ".nii"),
) -> Batch:
    """Resolve what was said on the command line into a batch.

    Parameters
    ----------
    shared, recorded : dict
        Values of the shared options, and of the tool's own that are recorded.
    images_wanted : bool or None
        Whether the run writes images; None for tools that never do.
    more_images : sequence of str
        Inputs that own options name; one that is named otherwise too is an input once.
    more_outputs : mapping, optional
        What is made beside the image → the directory it goes to, None where it is not wanted.
    same_names : bool
        Whether inputs may have the same case name.
    suffixes : tuple of str
        How an image that -o names may end.

    Raises
    ------
    click.UsageError
        If there is no input, more outputs than inputs, or more than one use of standard input, or
        if options exclude each other.
    """
    if shared["assume_orientation"] is not None:
        recorded = {**recorded, "assume_orientation": shared["assume_orientation"]}
    sources = _sources(shared, more_images)
    _refuse_empty_paths(sources, shared, recorded)
    sources, elsewhere = _split(sources, shared["shard"])
    output, output_dir = shared.get("output"), shared.get("output_dir")
    if images_wanted:
        check_output(output, output_dir, len(sources), suffixes)
    folders = {IMAGE: output_dir, **(more_outputs or {})} if images_wanted else {}
    plan = make_plan(
        sources,
        elsewhere,
        output=output,
        folders={what: place for what, place in folders.items() if place is not None},
        suffix=".nii" if shared.get("nii") else ".nii.gz",
        pattern=shared["case_pattern"],
        same_names=same_names,
    )
    names = frozenset(same_name(case.name) for case in plan.cases)
    return Batch(
        plan=plan,
        making=Making(
            click.get_current_context().command_path,
            _plain_options(recorded),
            frozenset(name for name in recorded if not was_given(name)),
        ),
        companions=Companions(names, shared["case_pattern"]),
        **{name: shared[name] for name in RUNNING_NAMES if name in shared},
    )


def _sources(shared: dict[str, Any], more_images: Sequence[str]) -> list[str]:
    """Return all inputs: the arguments, those of -T, and those that own options name.

    A folder stands for its images.
    """
    files_from = shared["files_from"]
    sources = list(shared["images"])
    if files_from is not None:
        sources += read_paths(files_from, shared["null"])
    sources = _folders_opened(sources, shared["case_pattern"])
    if more_images:
        named = {file_identity(source) for source in sources}
        sources += [path for path in more_images if file_identity(path) not in named]
    if not sources and files_from is not None:
        raise click.UsageError(f"no input: the list -T {files_from} is empty")
    if not sources:
        raise click.UsageError("no input: name images, or give a list with -T")
    if sources.count(STREAM) + (files_from == STREAM) > 1:
        raise click.UsageError("standard input can be read only once")
    return sources


def _folders_opened(sources: list[str], pattern: re.Pattern[str] | None) -> list[str]:
    """Return inputs with the images of each folder in its place, those that are named too once.

    A folder without images stays, and is an error of its own when it is read.
    """
    files = (source for source in sources if source != STREAM)
    folders = set(filter(os.path.isdir, not_plain_files(files)))
    if not folders:
        return sources
    taken = {file_identity(source) for source in sources}
    opened: list[str] = []
    for source in sources:
        images = images_in(source, pattern) if source in folders else []
        if not images:
            opened.append(source)
        if pattern is None:
            refuse_channels(images)
        for image in images:
            if (identity := file_identity(image)) not in taken:
                taken.add(identity)
                opened.append(image)
    return opened


def _refuse_empty_paths(sources: list[str], shared: dict, recorded: dict) -> None:
    several = [path for value in recorded.values() if isinstance(value, tuple) for path in value]
    if "" in (*sources, *shared.values(), *recorded.values(), *several):
        raise click.UsageError("a path is empty (an unset variable?)")


def _split(sources: list[str], shard: tuple[int, int] | None) -> tuple[list[str], list[str]]:
    """Return the inputs of a shard, and the others, which no process may write over either."""
    if shard is None:
        return sources, []
    part, count = shard
    others = sorted(sources)
    own = others[part::count]
    del others[part::count]
    if not own:
        raise click.exceptions.Exit(0)  # more shards than cases: nothing to do here
    return own, others


def check_output(
    output: str | None,
    output_dir: str | None,
    inputs: int,
    suffixes: tuple[str, ...],
    *,
    stream: bool = True,
) -> None:
    """Raise click.UsageError unless the options say where the images of all inputs go."""
    if (output is None) == (output_dir is None):
        raise click.UsageError("say where to write: -o FILE for one input, or -O DIR for many")
    if output is None:
        return
    if inputs > 1:
        raise click.UsageError(f"-o takes one input, there are {inputs}; use -O DIR")
    if not (output == STREAM and stream) and not output.lower().endswith(suffixes):
        named = " or ".join(suffixes) + (", or be - for standard output" if stream else "")
        raise click.UsageError(f"{output}: an output must be named {named}")
    if output == STREAM and sys.stdout.isatty():
        raise click.UsageError("an image cannot go to a terminal; redirect standard output")


def file_identity(path: str) -> tuple[str, str]:
    """Return what two spellings of one input share: where its file truly is, and its name."""
    return os.path.realpath(path), os.path.basename(path)  # noqa: PTH119  as the case is named


def read_bytes(path: str) -> bytes:
    """Return what a file or a pipe holds; ``-`` is standard input, a closed one is empty."""
    if path == STREAM:
        return b"" if sys.stdin is None else sys.stdin.buffer.read()
    with open(path, "rb") as stream:  # noqa: PTH123  '-T <(find …)' is not a regular file
        return stream.read()


def read_paths(listing: str, null: bool) -> list[str]:
    """Read a list of paths, one per line or NUL-ended; ``-`` is standard input."""
    try:
        content = read_bytes(listing)
    except OSError as error:
        raise click.UsageError(f"-T {listing}: {error.strerror or error}") from None
    if not null and b"\0" in content:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise click.UsageError(
                f"-T {listing} is UTF-16, as PowerShell writes it: save it as UTF-8"
            )
        raise click.UsageError(f"-T {listing} holds NUL bytes: with NUL-ended paths say -0, too")
    if null and b"\0" not in content and b"\n" in content:
        raise click.UsageError(f"-T {listing} holds no NUL: for one path per line leave out -0")
    paths = [path for path in os.fsdecode(content).split("\0" if null else "\n") if path]
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
        say(
            context.command_path, f"warning: -T {listing} has Windows line ends, taken as line ends"
        )
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
    """Return an option's path, or its paths if it may be given several times, normalized."""
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
