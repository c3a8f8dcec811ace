"""examples/clinic.sh: from a folder of DICOM to segments, reports, a table and a page."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.cli.helpers import rows_of
from tests.conftest import ROOT, load, matrix_of, shell, succeed
from tests.dicom_data import pydicom, slices_of, write
from tests.nnunet_data import random_model

CLINIC = ROOT / "examples" / "clinic.sh"


def write_phantom(folder, path, patient: str, vendor: str, syntax: str) -> None:
    """Write a CT as DICOM."""
    matrix, hu = matrix_of(path), load(path)
    assert np.array_equal(np.sign(np.diag(matrix)[:3]), [-1, -1, 1])
    spacing = np.abs(np.diag(matrix)[2::-1])
    origin = matrix[:3, 3] * [-1, -1, 1]
    rest = {"spacing": spacing.tolist(), "origin": origin.tolist()}
    write(folder / patient, slices_of(hu, patient=patient, vendor=vendor, **rest), syntax)


@pytest.mark.slow
def test_a_folder_of_dicom_becomes_segments_reports_a_table_and_a_page(tmp_path):
    pytest.importorskip("nnunetv2")
    highdicom = pytest.importorskip("highdicom")
    made = succeed("lnq-phantom", "-n", "2", "-O", "p", cwd=tmp_path).lines
    uids = pydicom.uid
    vendors = {"A1": ("north", uids.ImplicitVRLittleEndian), "B2": ("south", uids.JPEGLSLossless)}
    for path, (patient, how) in zip(made, vendors.items(), strict=True):
        write_phantom(tmp_path / "disc", tmp_path / path, patient, *how)
    missing = slices_of(np.zeros((5, 8, 8), np.int16), patient="C3")
    write(tmp_path / "disc" / "C3", [*missing[:2], *missing[3:]])
    random_model(tmp_path / "model", spacing=(3.0, 3.0, 3.0), eagerness=-0.2)
    command = (
        f"OMP_NUM_THREADS=1 '{CLINIC}' -d 14 model disc out --no-mirror --step-size 1 --lungs none"
    )
    done = shell(command, tmp_path, forked=True)
    assert done.status == 1
    assert "disc/C3: its slices are not evenly spaced" in done.err
    assert len(re.findall("(?m)^lnq-", done.err)) == 1, done.err
    assert done.lines[-2:] == ["out/nodes.tsv", "out/report/index.html"]

    series = rows_of((tmp_path / "out" / "series.tsv").read_text())
    assert [row["outcome"] for row in series] == ["written", "written", "failed"]
    nodes = rows_of((tmp_path / "out" / "nodes.tsv").read_text())
    assert len(nodes) > 1
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    for path, patient in zip(made, vendors, strict=True):
        assert np.array_equal(
            load(tmp_path / "out/ct" / f"{patient}.nii.gz"), load(tmp_path / path)
        )
        own = [row for row in nodes if row["case"] == patient]
        seg = highdicom.seg.segread(tmp_path / "out" / "seg" / f"{patient}.dcm")
        assert seg.PatientID == patient
        assert seg.number_of_segments == len(own)
        described = seg.get_segment_description(1)
        (identified,) = described.SegmentationAlgorithmIdentificationSequence
        assert identified.AlgorithmName == "lnq-infer"
        report = highdicom.sr.srread(tmp_path / "out" / "sr" / f"{patient}.dcm")
        groups = report.content.get_volumetric_roi_measurement_groups()
        assert [g.tracking_identifier for g in groups] == [f"Lymph node {row['id']}" for row in own]
        volumes = [
            next(m.value for m in group.get_measurements() if m.name.meaning == "Volume")
            for group in groups
        ]
        assert volumes == pytest.approx([float(row["volume_mm3"]) for row in own], rel=1e-6)
        assert f'data-name="{patient}"' in page
        if shutil.which("dciodvfy"):
            for kind in ("seg", "sr"):
                check = ["dciodvfy", "-new", tmp_path / "out" / kind / f"{patient}.dcm"]
                said = subprocess.run(check, capture_output=True, text=True, check=False)
                assert "Error" not in said.stdout + said.stderr
    back = ("--like", "out/ct", "--uncovered", "background", "-O", "back")
    succeed("lnq-dicom", "masks", "out/seg", *back, cwd=tmp_path)
    for patient in vendors:
        mask = load(tmp_path / "out" / "mask" / f"{patient}.nii.gz")
        assert np.array_equal(load(tmp_path / "back" / f"{patient}.nii.gz"), mask)

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.dcm")}
    assert shell(command, tmp_path, forked=True).status == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("", 2, "usage: clinic.sh"),
        ("-x model disc out", 2, "unknown option"),
        ("model nothing out", 1, "nothing: no such file or directory"),
        ("model empty out", 1, "empty: no DICOM file was found"),
    ],
)
def test_wrong_calls_say_so(arguments, status, said, tmp_path):
    (tmp_path / "empty").mkdir()
    done = shell(f"'{CLINIC}' {arguments}", tmp_path, forked=True)
    assert (done.status, done.out) == (status, "")
    assert said in done.err
