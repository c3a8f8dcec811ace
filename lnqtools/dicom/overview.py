"""What was found in folders of DICOM files, as rows of a table, and what volumes are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lnqtools.dicom.series import Series
from lnqtools.dicom.stacks import Stack
from lnqtools.errors import LnqError
from lnqtools.files.tables import Row


@dataclass(frozen=True)
class Found:
    """One volume of a series, or a series that has none, and why.

    Parameters
    ----------
    series : Series
    stack : Stack, optional
    name : str
        Of its image; '' if it gets none.
    why : str
        Why it is left, or not a volume.
    failed : bool
        Whether it was wanted and is not a volume.
    """

    series: Series
    stack: Stack | None = None
    name: str = ""
    why: str = ""
    failed: bool = False

    def row(self, outcome: str, image: str | None, why: str) -> Row:
        """Return its row of the table."""
        text, stack = self.series.text, self.stack
        x = y = z = None
        if stack is not None:
            rows, columns = stack.frames[0].plane.spacing
            x, y, z = columns, rows, round(float(abs(stack.step @ stack.normal)), 6)
        return {
            "patient": text("PatientID"),
            "study_uid": text("StudyInstanceUID"),
            "series_uid": self.series.uid,
            "series_number": text("SeriesNumber"),
            "description": text("SeriesDescription"),
            "modality": text("Modality"),
            "date": text("SeriesDate") or text("StudyDate"),
            "part": stack.part if stack else "",
            "files": len(self.series.instances),
            "slices": len(stack.frames) if stack else None,
            "rows": stack.shape[1] if stack else None,
            "columns": stack.shape[2] if stack else None,
            "spacing_x_mm": x,
            "spacing_y_mm": y,
            "spacing_z_mm": z,
            "kernel": ",".join(self.series.texts("ConvolutionKernel")),
            "contrast": ",".join(self.series.texts("ContrastBolusAgent")),
            "manufacturer": text("Manufacturer"),
            "model": text("ManufacturerModelName"),
            "outcome": outcome,
            "why": why,
            "image": image,
        }


def volumes_of(
    series: Sequence[Series], wanted: Sequence[str], description: re.Pattern[str] | None, by: str
) -> list[Found]:
    """Return the volumes of series, named, and the series that have none, with the reason.

    Parameters
    ----------
    series : sequence of Series
    wanted : sequence of str
        UIDs of series; all if there is none.
    description : re.Pattern, optional
        Is found in the descriptions of those that are wanted.
    by : {'patient', 'series'}
        What volumes are called by: Patient ID or Series Instance UID.
    """
    found: list[Found] = []
    for each in series:
        if why := _why_left(each, wanted, description):
            found.append(Found(each, why=why))
            continue
        try:
            stacks = each.stacks
        except LnqError as error:
            found.append(Found(each, why=str(error), failed=True))
            continue
        for stack in stacks:
            name = safe_name(each.text("PatientID") if by == "patient" else each.uid)
            part = f"-{safe_name(stack.part)}" if stack.part else ""
            found.append(Found(each, stack, f"{name}{part}" if name else ""))
    return [_alone(one, found, by) for one in found]


def _why_left(
    series: Series, wanted: Sequence[str], description: re.Pattern[str] | None
) -> str | None:
    """Say why a series is not made an image, or return None."""
    if not series.is_ct:
        return f"is not a CT, but {series.kind}"
    if series.is_localizer:
        return "is a localizer"
    if wanted and series.uid not in wanted:
        return "is not named by --series"
    if description and not description.search(series.text("SeriesDescription")):
        return f"its description does not match --description {description.pattern}"
    return None


def _alone(one: Found, found: Sequence[Found], by: str) -> Found:
    """Return a volume, or why it cannot be called as it would be."""
    if one.stack is None:
        return one
    if not one.name:
        return Found(one.series, one.stack, why="has no Patient ID: --name series", failed=True)
    same = [other for other in found if other.stack and other.name == one.name]
    if len(same) == 1:
        return one
    patient = one.series.text("PatientID")
    how = "--series or --description picks, --name series names each by its UID"
    why = f"is one of {len(same)} CT volumes of patient {patient}: {how}"
    if by == "series":
        why = f"is one of {len(same)} volumes that would be called {one.name}"
    return Found(one.series, one.stack, why=why, failed=True)


def safe_name(text: str) -> str:
    """Return text as part of a file's name: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).lstrip(".-")
