"""The sum that the record of an image has of itself and of all else that the image holds.

It is a CRC-32, against accidents and not against forgers: a byte that a disk changed, or voxels
that another program wrote under the record of the tool that made the image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from isal.isal_zlib import crc32

SUM = "sum"
"""What a record calls it."""


def with_sum(record: dict[str, Any], parts: Iterable[Any]) -> dict[str, Any]:
    """Return a record with the sum of itself and of the bytes of the rest, which come in parts."""
    plain = json.loads(json.dumps(record))  # as it will be read
    return {**plain, SUM: _sum_of(plain, parts)}


def without_sum(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of the making alone."""
    return {name: value for name, value in record.items() if name != SUM}


def fits(record: dict[str, Any] | None, parts: Iterable[Any]) -> bool | None:
    """Tell whether the sum in a record is that of itself and the parts; None if it has none.

    The parts are read in any case.
    """
    found = _sum_of(without_sum(record or {}), parts)
    return found == record[SUM] if record and SUM in record else None


def _sum_of(record: dict[str, Any], parts: Iterable[Any]) -> str:
    total = crc32(json.dumps(record, sort_keys=True).encode())
    for part in parts:
        total = crc32(part, total)
    return f"{total:08x}"
