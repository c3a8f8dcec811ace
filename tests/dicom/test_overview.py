"""What is said of series that were found: which are volumes, what they are called, and why not."""

import re
from pathlib import Path

import highdicom
import numpy as np
import pytest

from lnqtools.dicom.export import Algorithm, prepared
from lnqtools.dicom.export_report import make_report
from lnqtools.dicom.export_seg import make_seg
from lnqtools.dicom.numbering import Node, Numbered
from lnqtools.dicom.overview import safe_name, volumes_of
from lnqtools.dicom.series import find_series, one_ct
from lnqtools.images.volume import Volume
from tests.dicom_data import as_mr, ct_of, write_ct


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    write_ct(tmp_path / "a", patient="P 1", description="THORAX 1.0")
    write_ct(tmp_path / "b", patient="P2", series=2, description="THORAX 5.0", vendor="south")
    write_ct(tmp_path / "c", patient="P2", series=3, description="LUNG")
    write_ct(tmp_path / "m", patient="P3", series=4, edit=as_mr)
    return tmp_path


def told(disc: Path, *wanted: str, description: str | None = None, by: str = "patient"):
    """Return name, reason and failure of each series, by its number."""
    series = find_series([disc]).series
    pattern = re.compile(description) if description else None
    found = volumes_of(series, wanted, pattern, by)
    return {f.series.text("SeriesNumber"): (f.name, f.why, f.failed) for f in found}


def test_volumes_are_called_by_patients_where_that_tells_them_apart(disc):
    said = told(disc)
    assert said["1"] == ("P_1", "", False)
    why = (
        "is one of 2 CT volumes of patient P2: --series or --description picks, --name series "
        "names each by its UID"
    )
    assert said["2"] == said["3"] == ("", why, True)
    assert said["4"][1:] == ("is not a CT, but MR", False)


def test_a_series_is_picked_by_its_description_or_uid(disc):
    said = told(disc, description="^THORAX")
    assert [said[k][0] for k in "123"] == ["P_1", "P2", ""]
    assert said["3"][1] == "its description does not match --description ^THORAX"
    uid = next(s.uid for s in find_series([disc]).series if s.text("SeriesNumber") == "3")
    said = told(disc, uid)
    assert [said[k][0] for k in "123"] == ["", "", "P2"]
    assert said["1"][1] == "is not named by --series"


def test_series_have_names_of_their_own(disc):
    said = told(disc, by="series")
    names = {said[k][0] for k in "123"}
    assert len(names) == 3
    assert all(re.fullmatch(r"[\d.]+", name) for name in names)


def test_a_volume_without_patient_has_no_name(tmp_path):
    write_ct(tmp_path / "a", edit=lambda image, k: setattr(image, "PatientID", ""))
    assert told(tmp_path)["1"] == ("", "has no Patient ID: --name series", True)


def test_the_row_of_a_volume_has_its_size_and_spacing(disc):
    (found,) = (
        f for f in volumes_of(find_series([disc]).series, (), None, "patient") if f.name == "P_1"
    )
    row = found.row("written", "ct/P_1.nii.gz", "")
    assert [row[k] for k in ("patient", "modality", "files", "slices", "rows", "columns")] == [
        *("P 1", "CT", 6, 6, 10, 12)
    ]
    grid = one_ct(disc / "a").grid
    assert [row[f"spacing_{axis}_mm"] for axis in "zyx"] == pytest.approx(grid.spacing)
    assert (row["outcome"], row["image"]) == ("written", "ct/P_1.nii.gz")


@pytest.mark.parametrize(
    ("text", "name"), [("P 1/2", "P_1_2"), ("..a", "a"), ("-rf", "rf"), ("Ünal", "_nal"), ("", "")]
)
def test_names_of_files_are_plain(text, name):
    assert safe_name(text) == name


# A report


def test_a_report_has_the_axes_and_the_volume_of_each_node(tmp_path):
    """Boxes of 2 × 4 × 3 and 1 × 1 × 1 voxels: axes along the diagonal of the corners, by hand."""
    write_ct(tmp_path, ct_of())
    stack = one_ct(tmp_path)
    mask = np.zeros(stack.shape, np.uint8)
    mask[1:3, 2:6, 3:6] = 1
    mask[4, 8, 9] = 2
    nodes = [Node(1, "node 1"), Node(2, "node 2")]
    export = prepared(
        *(Volume(mask, stack.grid), stack, Numbered(mask, nodes)),
        *(Algorithm("AUTOMATIC", "net", "1"), "nodes"),
    )
    seg = make_seg(export)
    report = make_report(export, seg)
    report.save_as(tmp_path / "report.dcm")
    read = highdicom.sr.srread(tmp_path / "report.dcm")
    z, y, x = stack.grid.spacing
    values = {}
    for group in read.content.get_volumetric_roi_measurement_groups():
        for one in group.get_measurements():
            values.setdefault(group.tracking_identifier, []).append(float(one.value))
    long_mm, short_mm, volume_mm3 = values["node 1"]
    assert long_mm == pytest.approx(np.hypot(4 * y, 3 * x), abs=1e-3)
    assert short_mm == pytest.approx(2 * 4 * y * 3 * x / np.hypot(4 * y, 3 * x), abs=1e-3)
    assert volume_mm3 == pytest.approx(24 * x * y * z, abs=1e-3)
    assert values["node 2"][2] == pytest.approx(x * y * z, abs=1e-3)
    assert seg.PatientID == report.PatientID == "P1"
