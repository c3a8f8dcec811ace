"""lnq-phantom: nothing → a synthetic cohort with full truth, weak annotation and anatomy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools.choices import PHASES, PROFILES, SIZES
from lnqtools.cli._batch import Batch, end, rows_of
from lnqtools.cli._case import Case
from lnqtools.cli._contract import FORCE_OPTION, JOBS_OPTION, SKIP_OPTION, VOICE_OPTIONS
from lnqtools.cli._making import Making
from lnqtools.cli._options import FORMAT_OPTION
from lnqtools.cli._plan import make_plan
from lnqtools.cli._rules import option
from lnqtools.cli._tool import command, shared_option
from lnqtools.cli._values import PATH, FiniteRange

if TYPE_CHECKING:
    from lnqtools.phantom import NodeRow
    from lnqtools.phantom.patient import Profile


@command("lnq-phantom", example="lnq-phantom -n 8 --profile easy -O phantoms")
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
    "small network learns in minutes; ct-lymph-nodes, lnq2023, nsclc: as the paper's data sets.",
)
@option(
    "--phase",
    type=click.Choice(PHASES),
    help="Contrast of every case.  [default: drawn for each as the profile has it]",
)
@option(
    "--tumors",
    type=FiniteRange(0, 1),
    metavar="P",
    help="Probability that a case has a tumor of the lung.  [default: as the profile has it]",
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
    help="Write into folders of DIR: ct, truth, weak or standard, anatomy, instances, tumour.",
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
    phase: str | None,
    tumors: float | None,
    size: str,
    table: str | None,
    form: str,
    output_dir: str,
    nii: bool,
    **running,
) -> None:
    """Make synthetic chest CTs with lymph nodes.

    Writes DIR/ct, DIR/truth (every node), DIR/weak or DIR/standard (the annotated nodes, as the
    profile has them), DIR/anatomy (a TotalSegmentator v2 map), DIR/instances (nodes numbered) and
    DIR/tumour (where the profile has tumors), one file per case in each. A case depends on seed,
    number and these options alone, not on how many are made.
    """
    from lnqtools.anatomy.maps import class_names
    from lnqtools.images.names import label_table
    from lnqtools.images.volume import Volume
    from lnqtools.phantom import make_phantom
    from lnqtools.phantom.patient import profile_named

    numbers = {f"phantom{seed}-{index:04}": index for index in range(first, first + number)}
    chosen = {"phase": phase, "tumors": tumors}
    given = {name: value for name, value in chosen.items() if value is not None}
    images = _images(profile_named(profile), tumors)
    folders = {folder: str(Path(output_dir) / folder) for folder in images}
    suffix = ".nii" if nii else ".nii.gz"
    batch = Batch(
        plan=make_plan(numbers, folders=folders, suffix=suffix),
        making=Making(
            "lnq-phantom",
            {"seed": seed, "profile": profile, "size": size, **given},
            at_default=frozenset(chosen.keys() - given.keys()),
        ),
        reads_files=False,
        **running,
    )
    names = label_table(class_names("v2"))

    def process(case: Case) -> list[dict]:
        phantom = make_phantom(
            *(seed, numbers[case.name]),
            profile=profile,
            size=size,
            phase=phase,
            tumor_probability=tumors,
        )
        for folder, image in images.items():
            extensions = (names,) if folder == "anatomy" else ()
            case.write(Volume(getattr(phantom, image), phantom.grid, (), extensions), folder)
        if table is None:
            return []
        return [_row(case.name, phantom.phase, node) for node in phantom.nodes]

    done = batch.run(process, table=table)
    batch.write_table(rows_of(done), table, form)
    end(done)


def _images(profile: Profile, tumors: float | None) -> dict[str, str]:
    """Return the folders of a cohort, and which of a phantom's images goes into each."""
    images = {"ct": "ct", "truth": "truth"}
    if profile.annotation is not None:
        images[profile.annotation.folder] = "weak"
    images |= {"anatomy": "anatomy", "instances": "instances"}
    if profile.tumor_probability if tumors is None else tumors:
        images["tumour"] = "tumor"  # as data sets' folders are called in README and examples
    return images


def _row(case: str, phase: str, node: NodeRow) -> dict[str, Any]:
    """Return a node's row of the table."""
    from lnqtools.labels.measured import end_columns

    known = node._asdict()
    ends = [
        value for axis in ("long_axis", "short_axis") for end in known.pop(axis) for value in end
    ]
    return {"case": case, **known, "phase": phase, **dict(zip(end_columns(), ends, strict=True))}
