"""The packages that read and write DICOM, loaded when they are first needed."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

from lnqtools.errors import MissingExtraError


def load(name: str) -> Any:
    """Return a module of pydicom or highdicom, as ``pydicom.uid``.

    What files hold against the standard is not told, but looked at where it counts.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    if sys.modules.get("pydicom", sys) is None:  # hidden from nibabel, see cli/_tool.py
        del sys.modules["pydicom"]
    try:
        pydicom = importlib.import_module("pydicom")
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError("dicom", error.name or name) from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.logger.setLevel("CRITICAL")
    warnings.filterwarnings("ignore", module="pydicom")
    return module
