"""lnq-dicom: series → NIfTI, segmentation objects → masks, masks → segmentation objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools.choices import DRAWING_NAMES, DRAWINGS, HOW_DRAWN, SERIES_NAMES, UNCOVERED
from lnqtools.cli._batch import Batch, Done, end
from lnqtools.cli._case import Case
from lnqtools.cli._companions import Companions
from lnqtools.cli._contract import (
    JOBS_OPTION,
    OUTPUT_OPTIONS,
    VOICE_OPTIONS,
    check_output,
    image_inputs,
)
from lnqtools.cli._making import Making
from lnqtools.cli._names import STREAM, CasePattern, case_name, near_names, same_name
from lnqtools.cli._options import (
    CONNECTIVITY_OPTION,
    FORMAT_OPTION,
    INSTANCES_OPTION,
    VALUES_OPTION,
)
from lnqtools.cli._plan import IMAGE, Plan, Planned, make_plan
from lnqtools.cli._rules import option
from lnqtools.cli._tool import ToolGroup, command, help_end, say, shared_option, was_given
from lnqtools.cli._values import PATH, Companion, FiniteRange, Listed
from lnqtools.errors import LnqError, listed

if TYPE_CHECKING:
    from lnqtools.dicom.export import Algorithm
    from lnqtools.dicom.files import Unread
    from lnqtools.dicom.numbering import Numbering
    from lnqtools.dicom.objects import Drawing
    from lnqtools.dicom.overview import Found
    from lnqtools.images.volume import Volume

TOOL = "lnq-dicom"
NIFTI = (".nii.gz", ".nii")
DRAWING_TOOLS = ("lnq-infer",)
"""Tools whose masks an algorithm drew, as their records say; others pass on what somebody drew."""


@command(
    TOOL,
    ToolGroup,
    example="lnq-dicom images disc -O ct --table series.tsv",
    no_args_is_help=False,
    subcommand_metavar="COMMAND [ARGS]...",
)
def main() -> None:
    """Turn DICOM into images and masks, and masks into DICOM.

    Each COMMAND has arguments and options of its own: lnq-dicom COMMAND --help.
    """


PLACES = click.argument("places", nargs=-1, metavar="DIR...", type=PATH)
NULL_OPTION = shared_option(
    "-0", "--null", is_flag=True, help="Paths printed end with NUL, not a line end."
)
NAME_OPTION = option(
    "--name",
    "by",
    type=click.Choice(SERIES_NAMES),
    default="patient",
    help="What images are called by: the Patient ID, or the UID of their series.",
)
DESCRIPTION_OPTION = option(
    "--description",
    type=CasePattern(),
    help="Take what has this in its series description alone.",
)
SEGMENTS_OPTION = option(
    "--segments",
    type=Listed("NAME|NUMBER|CODE,...", "of names, numbers or codes"),
    help="Segments that are meant; in a name * stands for anything.  [default: all, if they are "
    "of one kind]",
)


def shared_by(*options: Callable) -> Callable:
    """Give a command options, in their order."""

    def decorate(function: Callable) -> Callable:
        for each in reversed(options):
            function = each(function)
        return function

    return decorate


# Series to images


@main.command("images", epilog=help_end("lnq-dicom images disc -O ct --table series.tsv"))
@PLACES
@NAME_OPTION
@option(
    "--series",
    "wanted",
    multiple=True,
    metavar="UID",
    help="Take this series alone; may be given several times.",
)
@DESCRIPTION_OPTION
@option(
    "--resample",
    is_flag=True,
    help="Interpolate CTs of a tilted gantry or with uneven slices onto a grid at right angles; "
    "without it they are refused.",
)
@option(
    "--table",
    type=PATH,
    metavar="FILE",
    help="Write what was found, one row per series or volume ('-': standard output).",
)
@FORMAT_OPTION
@shared_by(*OUTPUT_OPTIONS, NULL_OPTION, JOBS_OPTION, *VOICE_OPTIONS)
def images(
    places: tuple[str, ...],
    by: str,
    wanted: tuple[str, ...],
    description: re.Pattern[str] | None,
    resample: bool,
    table: str | None,
    form: str,
    output: str | None,
    output_dir: str | None,
    nii: bool,
    **running: bool,
) -> None:
    """Make a NIfTI image of each CT series in folders.

    Each DIR is searched with all of its folders; what is not DICOM is passed over. Slices are in
    order and values HU as the headers say. Without -o and -O, --table lists what is there.
    """
    from lnqtools.dicom.overview import volumes_of
    from lnqtools.dicom.series import find_series
    from lnqtools.dicom.stacks import UnevenError

    _refuse_no_input(places)
    only_list = table is not None and output is None and output_dir is None
    if not only_list:
        check_output(output, output_dir, 1, NIFTI)
    archive = find_series(places)
    found = volumes_of(archive.series, wanted, description, by)
    if not archive.series and not archive.unread:
        raise LnqError(f"{', '.join(places)}: no DICOM file was found")
    volumes = {} if only_list else _by_source([one for one in found if one.name])
    if output is not None and len(volumes) > 1:
        raise click.UsageError(
            f"-o takes one CT, there are {len(volumes)}: --series or --description picks, -O DIR "
            "takes all"
        )
    plan = _plan_of(
        {source: one.name for source, one in volumes.items()},
        *(output, output_dir, ".nii" if nii else ".nii.gz"),
    )
    batch = _batch("images", plan, {"resample": resample}, running)

    def process(case: Case) -> str:
        stack = volumes[case.source].stack
        assert stack is not None, "what gets a name has one"
        series = volumes[case.source].series.uid
        try:
            volume = case.read(lambda _: stack.read(resample))
        except UnevenError as error:
            raise LnqError(f"{error}; --resample interpolates them") from None
        return "written" if case.write(volume, facts={"series": series}) else "kept"

    batch.check_table(table)
    done = batch.run(process, table=table if table == STREAM else None)
    failed = _tell_failures(batch, found, archive.unread)
    if table is not None:
        outcomes = dict(zip(volumes, done, strict=True))
        sources = {id(one): source for source, one in volumes.items()}
        rows = [_row(one, outcomes.get(sources.get(id(one), ""))) for one in found]
        batch.write_table(rows, table, form)
    if not only_list and not volumes and not failed:
        kinds = sorted({one.why for one in found})
        raise LnqError(f"{', '.join(places)}: no CT was found; what is there {', or '.join(kinds)}")
    _end(done, failed)


def _row(one: Found, done: Done | None) -> dict[str, Any]:
    """Return a volume's row of the table."""
    if done is None:
        outcome = "failed" if one.failed else "left" if one.why else "listed"
        return one.row(outcome, None, one.why)
    if done.error is not None:
        return one.row("failed", None, done.error)
    return one.row(done.result or "kept", done.case.targets[0], "; ".join(done.warnings))


def _by_source(found: Sequence[Found]) -> dict[str, Found]:
    """Return volumes by what they are called in messages: their folder, or their first file."""
    folders = [str(one.series.folder) for one in found]
    sources: dict[str, Found] = {}
    for one, folder in zip(found, folders, strict=True):
        alone = folders.count(folder) == 1
        file = str(one.stack.frames[0].path) if one.stack else folder
        place = folder if alone else file
        sources[f"{place} ({one.stack.part})" if one.stack and one.stack.part else place] = one
    return sources


def _tell_failures(batch: Batch, found: Sequence[Found], unread: Sequence[Unread]) -> int:
    """Tell of series and files that should have been read; return how many they are."""
    for path, why in unread:
        say(batch.tool, why, path)
    failed = [one for one in found if one.failed]
    for one in failed:
        where = one.series.instances[0].path
        say(batch.tool, f"series {one.series.text('SeriesNumber')}: {one.why}", where.parent)
    if left := sum(bool(one.why) and not one.failed for one in found):
        batch.say(f"{left} of {len(found)} series were left (--table tells why)")
    return len(failed) + len(unread)


# Segmentations to masks


@main.command(
    "masks", epilog=help_end("lnq-dicom masks disc --like ct --uncovered background -O masks")
)
@PLACES
@option(
    "--like",
    type=Companion(),
    required=True,
    metavar="FILE|DIR",
    help="The CT that the segmentation was drawn on, as an image: the mask gets its grid.",
)
@option(
    "--uncovered",
    type=click.Choice(UNCOVERED),
    required=True,
    help="What voxels are in slices that the segmentation does not hold: background, if whoever "
    "drew it looked at all of the CT, else unknown (2).",
)
@SEGMENTS_OPTION
@option(
    "--instances",
    is_flag=True,
    not_with="--uncovered unknown",
    help="Give each segment a number of its own; the header names them.",
)
@option(
    "--resample",
    is_flag=True,
    help="Take segmentations on other voxels than the CT's, too: the nearest ones; without it they "
    "are refused.",
)
@option(
    "--threshold",
    type=FiniteRange(0, 1, min_open=True),
    default=0.5,
    metavar="P",
    help="Least value of voxels that are in a fractional segment.",
)
@option(
    "--name",
    "by",
    type=click.Choice(DRAWING_NAMES),
    default="patient",
    help="What masks are called by: the Patient ID, the UID of the series drawn on, or the "
    "segmentation's file; .seg.nrrd are called as their files.",
)
@DESCRIPTION_OPTION
@shared_by(*OUTPUT_OPTIONS, NULL_OPTION, JOBS_OPTION, *VOICE_OPTIONS)
def masks(
    places: tuple[str, ...],
    like: str,
    uncovered: str,
    segments: tuple[str, ...] | None,
    instances: bool,
    resample: bool,
    threshold: float,
    by: str,
    description: re.Pattern[str] | None,
    output: str | None,
    output_dir: str | None,
    nii: bool,
    **running: bool,
) -> None:
    """Make masks of DICOM SEG, RTSTRUCT and Slicer's .seg.nrrd, on the grids of CTs.

    Each DIR is a folder that is searched with all of its folders, or a file.
    """
    from lnqtools.dicom.objects import find_drawings, require_drawings

    _refuse_no_input(places)
    check_output(output, output_dir, 1, NIFTI)
    found, archive = find_drawings(places)
    if description:
        found = [one for one in found if description.search(one.description)]
    require_drawings(found, archive)
    sources = {str(one.path): one for one in found}
    names, refused = _names_of(sources, by)
    if output is not None and len(names) + len(refused) > 1:
        raise click.UsageError(
            f"-o takes one segmentation, there are {len(sources)}: --description picks, -O DIR "
            "takes all"
        )
    plan = _plan_of(names, output, output_dir, ".nii" if nii else ".nii.gz")
    options: dict[str, Any] = {"like": like, "uncovered": uncovered, "threshold": threshold}
    options |= {"segments": segments and list(segments), "instances": instances}
    options |= {"resample": resample}
    batch = _batch("masks", plan, options, running)

    def process(case: Case) -> None:
        grid = case.read_companion_grid(like, "--like")
        _warn_of_another_series(case, sources[case.source], case.companion(like, "--like"))

        def read(_: str) -> Volume:
            return sources[case.source].mask(
                *(grid, segments),
                instances=instances,
                uncovered=uncovered,
                threshold=threshold,
                resample=resample,
            )

        case.write(case.read(read))

    done = batch.run(process)
    for source, why in refused.items():
        say(batch.tool, why, source)
    for path, why in archive.unread:
        say(batch.tool, why, path)
    _end(done, len(refused) + len(archive.unread))


def _warn_of_another_series(case: Case, drawing: Drawing, ct: Path) -> None:
    """Warn of a CT that was made of another series than the one drawn on, if both say which."""
    from lnqtools.images.nifti import read_provenance

    if not str(ct).lower().endswith(NIFTI) or not drawing.series:
        return
    series = (read_provenance(ct) or {}).get("series")
    if series and series != drawing.series:
        case.warn(f"was drawn on series {drawing.series}, --like {ct} was made of series {series}")


def _names_of(sources: Mapping[str, Drawing], by: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what the masks of segmentations are called, and why others get no name."""
    from lnqtools.dicom.overview import safe_name

    names: dict[str, str] = {}
    for source, one in sources.items():
        file = case_name(source).removesuffix(".dcm")
        names[source] = file if by == "file" or one.kind == ".seg.nrrd" else ""
        names[source] = names[source] or safe_name(getattr(one, by, file))
    refused = {
        source: f"does not say of which {by} it is: --name file"
        for source, name in names.items()
        if not name
    }
    every = list(names.values())
    for source, name in names.items():
        if name and (same := every.count(name)) > 1:
            refused[source] = (
                f"is one of {same} segmentations of {name}: --description picks, or --name file "
                "names each by its file"
            )
    return {s: name for s, name in names.items() if s not in refused}, refused


# Masks to segmentations


@dataclass(frozen=True)
class SeriesCompanions(Companions):
    """The CT series that masks were made on, found by their names among those of a folder."""

    volumes: Mapping[str, Found] = field(default_factory=dict)
    only_one: bool = False
    """Whether there is one mask and one CT, which then belong together whatever they are called."""

    def found(self, case: Planned, place: str) -> Found:
        """Return the CT of a mask."""
        name = same_name(case.name)
        if found := next(iter(self.volumes.values())) if self.only_one else self.volumes.get(name):
            return found
        near = near_names(name, sorted(self.volumes))
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        there = f"it holds {listed(sorted(self.volumes))}"
        raise LnqError(f"no CT series in --dicom {place} is called {case.name}{hint}: {there}")

    def find(self, case: Planned, place: str, option: str) -> Path:
        """Return the folder of the CT of a mask."""
        return self.found(case, place).series.folder


@main.command(
    "export", epilog=help_end("lnq-dicom export predicted/*.nii.gz --dicom disc --as seg -O seg")
)
@option(
    "--as",
    "kind",
    type=click.Choice(DRAWINGS),
    required=True,
    needs={kind: "--dicom" for kind in DRAWINGS if kind != "seg.nrrd"},
    help="DICOM SEG, RTSTRUCT, a structured report (TID 1500) of axes and volumes, or Slicer's "
    ".seg.nrrd.",
)
@option(
    "--dicom",
    type=Companion(),
    metavar="DIR",
    not_with="--as seg.nrrd",
    help="Folder of the CT series that the masks were made on.",
)
@NAME_OPTION.but(
    help="What of a CT series a mask is called by.  With one mask and one CT names do not count.",
    only_with="--dicom",
)
@option(
    "--per-node",
    is_flag=True,
    help="One segment per node: per component, or per number with --instances.",
)
@INSTANCES_OPTION
@VALUES_OPTION
@CONNECTIVITY_OPTION.but(not_with="--instances")
@option(
    "--drawn",
    type=click.Choice(HOW_DRAWN),
    default="automatic",
    help="How the masks were drawn.",
)
@option(
    "--algorithm",
    metavar="NAME",
    not_with="--drawn manual",
    help="What drew the masks.  [default: as their headers say]",
)
@option(
    "--algorithm-version",
    metavar="TEXT",
    only_with="--algorithm",
    help="Its version.",
)
@option(
    "--title",
    default="Lymph nodes",
    metavar="TEXT",
    help="Series description of what is written.",
)
@shared_option("-o", "--output", "file", type=PATH, metavar="FILE", help="Write to FILE.")
@shared_option(
    "-O",
    "--output-dir",
    "folder",
    type=PATH,
    metavar="DIR",
    help="Write CASE.dcm, or CASE.seg.nrrd, into DIR for each mask.",
)
@image_inputs("file", "folder", "by")
def export(
    batch: Batch,
    kind: str,
    dicom: str | None,
    by: str,
    per_node: bool,
    instances: bool,
    values: tuple[int, ...] | None,
    connectivity: int,
    drawn: str,
    algorithm: str | None,
    algorithm_version: str | None,
    title: str,
    file: str | None,
    folder: str | None,
) -> None:
    """Make DICOM SEG, RTSTRUCT or reports, or .seg.nrrd, of masks.

    Each IMAGE is a mask on the grid of its CT. Patient and study are those of the CT series.
    """
    from lnqtools.dicom.numbering import Numbering
    from lnqtools.labels.masks import read_mask

    suffix = ".seg.nrrd" if kind == "seg.nrrd" else ".dcm"
    check_output(file, folder, len(batch.cases), (suffix,), stream=False)
    batch = _writing(batch, file, folder, suffix)
    how = Numbering(per_node or kind == "sr", instances, connectivity)
    read = partial(read_mask, values=values, instances=instances)
    if dicom is None:

        def process(case: Case) -> None:
            case.write(how.labels(case.read(read)))

    else:
        batch, companions = _with_series(batch, dicom, by)
        process = partial(
            _export,
            companions,
            dicom,
            kind,
            how,
            read,
            (drawn, algorithm, algorithm_version),
            title,
        )
    end(batch.run(process))


def _export(
    companions: SeriesCompanions,
    place: str,
    kind: str,
    how: Numbering,
    read: Callable[[str], Volume],
    drawn_by: tuple[str, str | None, str | None],
    title: str,
    case: Case,
) -> None:
    """Write the DICOM object of a mask."""
    from lnqtools.dicom.export import prepared, write_object
    from lnqtools.dicom.kinds import make_object

    mask = case.read(read)
    stack = companions.found(case.planned, place).stack
    assert stack is not None, "only volumes are among them"
    case.made_from("--dicom", place, stack.digest())
    algorithm = _algorithm_of(mask, *drawn_by)
    made = prepared(mask, stack, how.numbers(mask), algorithm, title)
    case.write_file(partial(write_object, make_object(kind, made), made))


def _algorithm_of(mask: Volume, drawn: str, name: str | None, version: str | None) -> Algorithm:
    """Return what drew a mask: as the command line says, else as the mask's header does."""
    from lnqtools.dicom.export import Algorithm
    from lnqtools.images.nifti import provenance_of

    if drawn == "manual":
        return Algorithm("MANUAL")
    record = provenance_of(mask.extensions) or {}
    if name is None and record.get("tool") not in DRAWING_TOOLS:
        raise LnqError(
            "does not say what drew it: --algorithm NAME says it, or --drawn manual if a person did"
        )
    if name is None:
        name, version = str(record["tool"]), str(record.get("version", ""))
    return Algorithm(drawn.upper(), name, version or "")


def _with_series(batch: Batch, place: str, by: str) -> tuple[Batch, SeriesCompanions]:
    """Return a batch that knows the CTs of a folder, and these."""
    from lnqtools.dicom.overview import volumes_of
    from lnqtools.dicom.series import find_series

    archive = find_series([place])
    found = volumes_of(archive.series, (), None, by)
    volumes = {same_name(one.name): one for one in found if one.name}
    unnamed = [one for one in found if one.stack and not one.name]
    if not volumes and not unnamed:
        reasons = listed(sorted({one.why for one in found})) or "no DICOM file is there"
        raise LnqError(f"--dicom {place}: holds no CT series ({reasons})")
    for one in unnamed:
        batch.say(f"warning: --dicom {place}: series {one.series.uid} {one.why}")
    companions = SeriesCompanions(
        *(batch.companions.cases, batch.companions.pattern),
        volumes=volumes,
        only_one=len(volumes) == len(batch.cases) == 1 and not unnamed,
    )
    return replace(batch, companions=companions), companions


def _writing(batch: Batch, file: str | None, folder: str | None, suffix: str) -> Batch:
    """Return a batch whose cases become files of a suffix."""
    plan = make_plan(
        batch.sources,
        [source for source, _ in batch.plan.elsewhere],
        output=file,
        folders={IMAGE: folder} if folder else {},
        suffix=suffix,
        pattern=batch.companions.pattern,
    )
    return replace(batch, plan=plan)


# What the commands share


def _refuse_no_input(places: Sequence[str]) -> None:
    if not places:
        raise click.UsageError("no input: name folders of DICOM files")
    if "" in places:
        raise click.UsageError("a path is empty (an unset variable?)")


def _plan_of(names: Mapping[str, str], output: str | None, folder: str | None, suffix: str) -> Plan:
    """Return a plan of inputs whose names are known."""
    cases = []
    for source, name in names.items():
        target = output or (str(Path(folder) / f"{name}{suffix}") if folder else None)
        cases.append(Planned(name, source, {} if target is None else {IMAGE: target}))
    return Plan(tuple(cases), (), output, (Path(folder),) if folder else ())


def _batch(
    name: str,
    plan: Plan,
    options: Mapping[str, Any],
    running: Mapping[str, Any],
    companions: Companions | None = None,
    **more: Any,
) -> Batch:
    """Return the batch of a command."""
    context = click.get_current_context()
    defaults = frozenset(option for option in options if not was_given(option))
    return Batch(
        plan=plan,
        making=Making(context.command_path, dict(options), defaults),
        companions=companions or Companions(frozenset(same_name(c.name) for c in plan.cases)),
        **running,
        **more,
    )


def _end(done: Iterable[Done], failed: int) -> None:
    """End with status 1 if some input failed."""
    end(done)
    if failed:
        raise click.exceptions.Exit(1)
