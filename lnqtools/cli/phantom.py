"""lnq-phantom: nothing → a synthetic cohort with full truth, weak annotation and anatomy."""

from __future__ import annotations

from pathlib import Path

import click

from lnqtools.choices import PROFILES, SIZES
from lnqtools.cli._batch import Batch, end, rows_of
from lnqtools.cli._case import Case
from lnqtools.cli._contract import FORCE_OPTION, JOBS_OPTION, SKIP_OPTION, VOICE_OPTIONS
from lnqtools.cli._making import Making
from lnqtools.cli._options import FORMAT_OPTION
from lnqtools.cli._plan import make_plan
from lnqtools.cli._rules import option
from lnqtools.cli._tool import command, shared_option
from lnqtools.cli._values import PATH

FOLDERS = ("ct", "truth", "weak", "anatomy", "instances")


@command("lnq-phantom")
@option(
    "-n", "--number", type=click.IntRange(min=1), required=True, metavar="N", help="Cases to make."
)
@option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    metavar="S",
    help="Cohorts of different seeds have no case in common.",
)
@option(
    "--first", type=click.IntRange(min=0), default=0, metavar="I", help="Number of the first case."
)
@option(
    "--profile",
    type=click.Choice(PROFILES),
    default="realistic",
    help="realistic: contrast, noise and nodes as in clinical CTs; easy: bright nodes, which a "
    "small network learns in minutes.",
)
@option(
    "--size",
    type=click.Choice(SIZES),
    default="small",
    help="small: voxels of about 3 mm; full: 512 × 512 voxels per slice.",
)
@option("--table", type=PATH, metavar="FILE", help="Write one row per node.")
@FORMAT_OPTION
@shared_option(
    "-O",
    "--output-dir",
    type=PATH,
    metavar="DIR",
    required=True,
    help="Write into the folders DIR/ct, DIR/truth, DIR/weak, DIR/anatomy, DIR/instances.",
)
@shared_option("--nii", is_flag=True, help="Write uncompressed .nii, which is faster.")
@shared_option("-0", "--null", is_flag=True, help="Paths printed end with NUL, not a line end.")
@FORCE_OPTION
@SKIP_OPTION
@JOBS_OPTION
@VOICE_OPTIONS[0]
@VOICE_OPTIONS[1]
def main(
    number: int,
    seed: int,
    first: int,
    profile: str,
    size: str,
    table: str | None,
    form: str,
    output_dir: str,
    nii: bool,
    **running,
) -> None:
    """Make synthetic chest CTs with lymph nodes.

    Writes DIR/ct, DIR/truth (every node), DIR/weak (the annotated part of the enlarged nodes),
    DIR/anatomy (a TotalSegmentator v2 map) and DIR/instances (nodes numbered), one file per
    case in each. A case depends on seed and number alone, not on how many are made.
    """
    from lnqtools.anatomy.maps import class_names
    from lnqtools.images.names import label_table
    from lnqtools.images.volume import Volume
    from lnqtools.phantom import make_phantom

    numbers = {f"phantom{seed}-{index:04}": index for index in range(first, first + number)}
    folders = {folder: str(Path(output_dir) / folder) for folder in FOLDERS}
    suffix = ".nii" if nii else ".nii.gz"
    batch = Batch(
        plan=make_plan(numbers, folders=folders, suffix=suffix),
        making=Making("lnq-phantom", {"seed": seed, "profile": profile, "size": size}),
        reads_files=False,
        **running,
    )
    names = label_table(class_names("v2"))

    def process(case: Case) -> list[dict]:
        phantom = make_phantom(seed, numbers[case.name], profile=profile, size=size)
        for folder in FOLDERS:
            array = getattr(phantom, folder)
            extensions = (names,) if folder == "anatomy" else ()
            case.write(Volume(array, phantom.grid, (), extensions), folder)
        return [{"case": case.name, **node._asdict()} for node in phantom.nodes] if table else []

    done = batch.run(process, table=table)
    batch.write_table(rows_of(done), table, form)
    end(done)
