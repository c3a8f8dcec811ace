"""A folder of DICOM files as the CT of a case."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume


def read_series(folder: str, trust_hu: bool = False) -> Volume:
    """Read the one CT series of a folder.

    Parameters
    ----------
    folder : str
    trust_hu : bool
        Do not look at the values.

    Raises
    ------
    LnqError
        As `lnqtools.dicom.series.read_one_ct` and `lnqtools.images.hounsfield.require_hu`.
    """
    from lnqtools.dicom.series import read_one_ct
    from lnqtools.images.hounsfield import require_hu

    ct = read_one_ct(folder)
    if not trust_hu:
        require_hu(ct.array)
    return ct
