"""What a DICOM object that these tools wrote says of its making: in a private element."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lnqtools.dicom.packages import load

GROUP, CREATOR, ELEMENT = 0x0071, "LNQTOOLS", 0x01


def add_record(dataset: Any, record: dict[str, Any] | None) -> None:
    """Write how an object was made into it."""
    if record is not None:
        block = dataset.private_block(GROUP, CREATOR, create=True)
        block.add_new(ELEMENT, "UT", json.dumps(record, sort_keys=True))


def read_record(path: str | Path) -> dict | None:
    """Return what says how an object was made, None if nothing does."""
    pydicom = load("pydicom")
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        text = dataset.private_block(GROUP, CREATOR)[ELEMENT].value
        record = json.loads(text)
    except Exception:  # noqa: BLE001  whatever another file raises: it has no record
        return None
    return record if isinstance(record, dict) else None


def uid_of(*words: object) -> str:
    """Return a UID (below 2.25, as of a UUID) that is the same for the same words."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"
