"""All that is known of each column of a table of metrics, in this one place.

Tables, pages and figures look a column up by `column_of` and call it by its title; summaries and
comparisons take from it which values are better, and which value is the worst there is.
"""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Column:
    """What is known of a column.

    Attributes
    ----------
    name : str
        In tables. One with ``{}`` in it stands for a family: ``nsd_{}mm`` for ``nsd_2mm``, ...
    title : str
        What people call it, with the ``{}`` of a family; the unit is not part of it.
    unit : str
        '' for fractions and counts.
    better : str or None
        'higher' or 'lower'; None if neither is, or if it is unknown.
    worst : float or None
        The worst value there is, of a fraction from 0 to 1: 0 or 1. None without a bound.
    digits : int
        Decimals that people are shown.
    of_reference : bool
        Whether it is about what is found of a reference: without one no prediction can do well
        or badly.
    """

    name: str
    title: str
    unit: str = ""
    better: str | None = None
    worst: float | None = None
    digits: int = 3
    of_reference: bool = False

    @property
    def heading(self) -> str:
        """The title with the unit, as tables and axes have it: ``ASSD (mm)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def is_fraction(self) -> bool:
        """Whether values lie from 0 to 1."""
        return self.worst is not None

    def rounded(self, value: float) -> str:
        """Return a value, or a difference of values, with the column's decimals."""
        return f"{value:.{self.digits}f}"


def _score(name: str, title: str, of_reference: bool = False) -> Column:
    """Return a fraction of which 1 is the best."""
    return Column(name, title, "", "higher", 0.0, of_reference=of_reference)


def _rate(name: str, title: str, of_reference: bool = False) -> Column:
    """Return a fraction of which 0 is the best."""
    return Column(name, title, "", "lower", 1.0, of_reference=of_reference)


def _distance(name: str, title: str) -> Column:
    return Column(name, title, "mm", "lower", digits=2)


def _volume(name: str, title: str, better: str | None = None) -> Column:
    return Column(name, title, "ml", better, digits=2)


_RECORDS = (
    # lnq-metrics, a row per case
    _score("dice", "Dice"),
    _score("iou", "IoU"),
    _score("precision", "precision"),
    _score("recall", "recall", of_reference=True),
    _distance("assd_mm", "ASSD"),
    _distance("asd_mm", "ASD"),
    _distance("masd_mm", "MASD"),
    _distance("hd_mm", "HD"),
    _distance("hd95_mm", "HD95"),
    _distance("hd95_pooled_mm", "pooled HD95"),
    _score("nsd_{}mm", "NSD at {} mm"),
    _volume("volume_prediction_ml", "predicted volume"),
    _volume("volume_reference_ml", "reference volume"),
    _volume("volume_error_ml", "volume error"),
    Column("components_prediction", "predicted components"),
    Column("components_reference", "reference components"),
    # lnq-metrics --detection and --lesions
    Column("tp", "TP"),
    Column("fn", "FN", better="lower"),
    Column("fp", "FP", better="lower"),
    Column("partners_elsewhere", "partners of another size"),
    _score("sensitivity", "sensitivity", of_reference=True),
    _score("f1", "F1"),
    _score("pq", "panoptic quality"),
    _score("sq", "segmentation quality", of_reference=True),
    _score("rq", "recognition quality"),
    _volume("fn_volume_ml", "FN volume", "lower"),
    _volume("fp_volume_ml", "FP volume", "lower"),
    # tables of components: lnq-metrics --lesions, lnq-filter-diameter --list
    Column("long_axis_mm", "long axis", "mm", digits=1),
    Column("long_axis_slice", "slice of the long axis", digits=0),
    Column("max_diameter_mm", "maximum diameter", "mm", digits=1),
    Column("hu_mean", "mean", "HU", digits=0),
    Column("hu_sd", "SD", "HU", digits=0),
    Column("midline_side", "side of the midline"),
    Column("midline_mm", "distance to the left of the midline", "mm", digits=1),
    Column("carina_mm", "distance to the carina", "mm", digits=1),
    # lnq-threshold
    _score("dice_pooled", "pooled Dice"),
    _score("lesion_sensitivity", "lesion sensitivity", of_reference=True),
    _score("lesion_precision", "lesion precision"),
    _score("lesion_f1", "lesion F1"),
    Column("fp_per_case", "FP per case", better="lower", digits=2),
    # cross-validation.tsv of lnq-train
    _score("dice_annotated", "Dice on annotated voxels"),
    _score("precision_annotated", "precision on annotated voxels"),
    _score("recall_annotated", "recall on annotated voxels", of_reference=True),
    # rates of error, in tables of other programs
    _rate("fpr", "FPR"),
    _rate("false_positive_rate", "false positive rate"),
    _rate("fnr", "FNR", of_reference=True),
    _rate("false_negative_rate", "false negative rate", of_reference=True),
    _rate("fdr", "FDR"),
    _rate("false_discovery_rate", "false discovery rate"),
)

COLUMNS = {record.name: record for record in _RECORDS}
"""Column, or family of columns → what is known of it."""

_UNITS = {"mm": "mm", "ml": "ml", "mm3": "mm³", "percent": "%"}
_UNIT = re.compile(rf"(?P<what>.+)_(?P<unit>{'|'.join(_UNITS)})(?P<over>(_mean|_sd)?)")


def column_of(name: str) -> Column:
    """Look up what is known of a column.

    Parameters
    ----------
    name : str
        As the table has it.

    Returns
    -------
    Column
        Of a column that is not in `COLUMNS` neither the better direction nor the worst value is
        known. Its title is its name in words; a unit at its end stands apart
        (``diameter_min_mm``). ``mean_rank(dice,assd_mm)`` is that of `case_ranks` of
        `lnqtools.comparison.ranking`, lower is better. It has two decimals with a unit, none if
        its name begins with ``voxels``, else three.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    if found := re.fullmatch(r"mean_rank\((.+)\)", name):
        titles = (column_of(metric).title for metric in found[1].split(","))
        return Column(name, f"mean rank ({', '.join(titles)})", better="lower")
    for family in filter(_is_family, COLUMNS.values()):
        start, end = family.name.split("{}")
        if found := re.fullmatch(rf"{re.escape(start)}([\d.e+-]+){re.escape(end)}", name):
            return replace(family, name=name, title=family.title.format(found[1]))
    if found := _UNIT.fullmatch(name):
        title = _in_words(found["what"] + found["over"])
        return Column(name, title, _UNITS[found["unit"]], digits=2)
    return Column(name, _in_words(name), digits=0 if name.startswith("voxels") else 3)


def _is_family(column: Column) -> bool:
    return "{}" in column.name


def _in_words(name: str) -> str:
    """Return a name as words; one that is itself a column's has the title of that."""
    words = [
        record.title if (record := COLUMNS.get(word) or COLUMNS.get(f"{word}_mm")) else word
        for word in name.split("_")
    ]
    return " ".join(words)


def column_with(name: str, better: str | None) -> Column:
    """Look up a column with the better direction that the user gives, None for the known one.

    Where that is not what is known, the worst value is 0 if higher is better: most such columns
    are fractions. If lower is better it is 1 of a fraction, and others have no bound.
    """
    known = column_of(name)
    if better in (None, known.better):
        return known
    worst = 0.0 if better == "higher" else 1.0 if known.is_fraction else None
    return replace(known, better=better, worst=worst)
