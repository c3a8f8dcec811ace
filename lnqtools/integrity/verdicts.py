"""Whether a file is what is recorded of it, in itself and elsewhere."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnqtools.errors import LnqError, MissingExtraError
from lnqtools.files.sums import sha256_of
from lnqtools.images.volume import image_suffix
from lnqtools.integrity.claims import Claim

WHOLE, CHANGED, MISSING, UNKNOWN = "whole", "changed", "missing", "unknown"
"""What may become of a file; unknown is one of which nothing says what should be in it."""
IMAGE, FILE = "image", "file"
"""Kinds of files that are neither of a model nor of a report."""


@dataclass(frozen=True)
class Verdict:
    """What is known of a file.

    Parameters
    ----------
    state : str
    why : str
        Why it is not whole.
    record : dict, optional
        What an image says of its making.
    unreadable : bool
        Whether nothing is known because it cannot be read.
    """

    state: str
    why: str = ""
    record: dict[str, Any] | None = None
    unreadable: bool = False


def judge(path: Path, kind: str, claims: Sequence[Claim] = ()) -> Verdict:
    """Compare a file with what is recorded of it.

    It is read piece by piece, once for each record that it is compared with.

    Parameters
    ----------
    path : Path
    kind : str
        Of a file that is not claimed: whether it is part of a model, a report, or neither.
    claims : sequence of Claim
        What records say of it.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return _not_a_file(claims)
        path.open("rb").close()
        record, known, problems = _in_itself(path)
        for claim, same in _compared(path, claims):
            known |= same
            if not same:
                problems.append(f"is not what {claim.record} says")
    except (FileNotFoundError, NotADirectoryError):
        return Verdict(MISSING, _who_names(path, claims))
    except OSError as error:
        return Verdict(UNKNOWN, f"cannot be read: {error.strerror or error}", unreadable=True)
    if problems:
        return Verdict(CHANGED, "; ".join(problems), record)
    if known:
        return Verdict(WHOLE, record=record)
    return Verdict(UNKNOWN, _why_unknown(record, kind, claims), record)


def _not_a_file(claims: Sequence[Claim]) -> Verdict:
    why = "is not a regular file"
    if claims:
        return Verdict(CHANGED, f"{why}, as {claims[0].record} says")
    return Verdict(UNKNOWN, why)


def _who_names(path: Path, claims: Sequence[Claim]) -> str:
    """Say who knows of a file that is not there."""
    if claims:
        return f"{claims[0].record} names it"
    return "is a link to what is not there" if path.is_symlink() else "no such file"


def _compared(path: Path, claims: Sequence[Claim]) -> Iterator[tuple[Claim, bool]]:
    """Yield the claims that tell a file's content, each with whether it is right."""
    telling = [claim for claim in claims if claim.sha256 is not None]
    if telling:
        digest = sha256_of(path)
        yield from ((claim, claim.sha256 == digest) for claim in telling)


def _in_itself(path: Path) -> tuple[dict[str, Any] | None, bool, list[str]]:
    """Return what a file says of its making, whether it says its content, and what is not right."""
    if image_suffix(path):
        return _of_image(path)
    if path.suffix.lower() == ".dcm":
        from lnqtools.dicom.record import read_record

        try:
            return read_record(path), False, []
        except MissingExtraError:
            return None, False, []
    if path.suffix == ".pth":
        from lnqtools.nnunet.checkpoint import check_sums

        try:
            check_sums(path)
        except OSError as error:
            return None, False, [str(error)]
    return None, False, []


def _of_image(path: Path) -> tuple[dict[str, Any] | None, bool, list[str]]:
    """Return of an image what `_in_itself` does.

    One without a sum is read all the same if it is NIfTI: gzip has a checksum of its own.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from lnqtools.images.nifti import is_as_written
        from lnqtools.images.nifti import read_provenance as read_record
    elif name.endswith(".seg.nrrd"):
        from lnqtools.images.seg_nrrd import is_as_written, read_record
    else:
        return None, False, []
    record = None
    try:
        record = read_record(path)
        same = is_as_written(path)
    except LnqError as error:
        return record, False, [str(error)]
    if same is False:
        return record, False, [f"is not what {made_by(record)} wrote"]
    return record, bool(same), []


def made_by(record: dict[str, Any] | None) -> str:
    """Return tool and version that a record names."""
    return " ".join(str((record or {}).get(name, "")) for name in ("tool", "version")).strip()


def _why_unknown(record: dict[str, Any] | None, kind: str, claims: Sequence[Claim]) -> str:
    if record is not None:
        return f"its record has no sum of it: {made_by(record)} wrote none"
    if claims:
        return f"{claims[0].record} has no sum of it: an older version wrote none"
    if kind in ("model", "report"):
        return f"the {kind}'s record has no sum of it"
    return "does not say what made it" if kind == IMAGE else "no record names it"
