"""What is known of each column of a table of metrics."""

import re

_BETTER = {
    "higher": r"dice|iou|precision|recall|nsd_.+|sensitivity|f1|pq|sq|rq",
    "lower": r"asd_mm|assd_mm|masd_mm|hd_mm|hd95_mm|hd95_pooled_mm|f[np]|f[np]_volume_ml",
}


def known_direction(metric: str) -> str | None:
    """Return 'higher' or 'lower', whichever of a column of lnq-metrics is better, or None."""
    for better, names in _BETTER.items():
        if re.fullmatch(names, metric):
            return better
    return None
