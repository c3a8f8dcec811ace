"""lnq-dicom as installed: series in, masks in and out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lnqtools.images.grid import place
from lnqtools.images.names import names_in_header
from lnqtools.images.volume import read_label
from lnqtools.labels.training import is_training_label
from tests.cli.helpers import rows_of
from tests.conftest import BIN, load, matrix_of, run, save, succeed
from tests.dicom_data import (
    as_mr,
    ct_of,
    enhanced_ct,
    matrix_of_series,
    pydicom,
    save_mask,
    slices_of,
    write,
    write_ct,
    write_one,
    write_seg,
)

SHAPE = (8, 24, 28)
PLAIN = pydicom.uid.ExplicitVRLittleEndian


def nodes() -> np.ndarray:
    """Return two nodes by number: one with a hole in a slice, and a box."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:5, 3:10, 4:12] = 1
    mask[2, 5:7, 6:9] = 0
    mask[5:7, 15:20, 18:22] = 2
    return mask


@pytest.fixture
def case(tmp_path) -> Path:
    """Return a folder with a CT of patient P1 as DICOM, and a mask and numbered nodes of it."""
    write_ct(tmp_path / "dicom", ct_of(SHAPE), vendor="south")
    save_mask(tmp_path / "mask" / "P1.nii.gz", nodes() > 0)
    save_mask(tmp_path / "nodes" / "P1.nii.gz", nodes())
    return tmp_path


# images


def write_archive(folder: Path) -> None:
    """Write what a disc of two patients may hold."""
    write_ct(folder / "P1" / "thin", series=2, description="CHEST 1.0")
    scout = slices_of(ct_of((1, 4, 5)), series=1)
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write(folder / "P1", scout)
    write_ct(folder / "P1" / "mr", series=3, edit=as_mr)
    write_ct(folder / "P2", patient="P2", vendor="south")
    missing = slices_of(ct_of(), patient="P3")
    write(folder / "P3", [*missing[:2], *missing[3:]])
    (folder / "README").write_text("text")


def test_every_ct_of_an_archive_becomes_an_image_and_the_rest_is_told(tmp_path):
    write_archive(tmp_path / "disc")
    told = run("lnq-dicom", "images", "disc", "-O", "ct", "--table", "t.tsv", cwd=tmp_path)
    assert told.status == 1
    assert told.lines == ["ct/P1.nii.gz", "ct/P2.nii.gz"]
    assert told.err.splitlines() == [
        "lnq-dicom images: disc/P3: its slices are not evenly spaced: most are 3 mm "
        "apart, 6 mm between 001.dcm and 002.dcm (1 missing); --resample interpolates them",
        "lnq-dicom images: 2 of 5 series were left (--table tells why)",
    ]
    for patient in ("P1", "P2"):
        assert np.array_equal(load(tmp_path / "ct" / f"{patient}.nii.gz"), ct_of())
        assert matrix_of(tmp_path / "ct" / f"{patient}.nii.gz") == pytest.approx(matrix_of_series())
    rows = rows_of((tmp_path / "t.tsv").read_text())
    assert [(r["patient"], r["series_number"], r["outcome"], r["why"]) for r in rows] == [
        ("P1", "1", "left", "is a localizer"),
        ("P1", "2", "written", ""),
        ("P1", "3", "left", "is not a CT, but MR"),
        ("P2", "1", "written", ""),
        ("P3", "1", "failed", rows[4]["why"]),
    ]
    assert "not evenly spaced" in rows[4]["why"]
    written = rows[1]
    assert written["description"] == "CHEST 1.0"
    assert written["date"] == "20240506"
    assert (written["slices"], written["rows"], written["columns"]) == ("6", "10", "12")
    spacing = [float(written[f"spacing_{axis}_mm"]) for axis in "xyz"]
    assert spacing == pytest.approx([0.5, 0.75, 3.0])
    assert (written["kernel"], written["contrast"]) == ("B30f", "Iodine")
    assert (rows[3]["kernel"], rows[3]["contrast"]) == ("I50f\\\\3", "")
    assert written["image"] == "ct/P1.nii.gz"


def test_resample_takes_the_series_with_a_missing_slice(tmp_path):
    write_archive(tmp_path / "disc")
    told = succeed("lnq-dicom", "images", "disc", "-O", "ct", "--resample", cwd=tmp_path)
    assert told.lines[-1] == "ct/P3.nii.gz"
    assert "its slices are not evenly spaced" in told.err
    assert load(tmp_path / "ct" / "P3.nii.gz").shape == (6, 10, 12)


def test_a_table_alone_lists_and_writes_nothing(tmp_path):
    write_ct(tmp_path / "disc")
    listed = succeed("lnq-dicom", "images", "disc", "--table", "-", cwd=tmp_path)
    assert [row["outcome"] for row in rows_of(listed.out)] == ["listed"]
    assert [path.name for path in tmp_path.iterdir()] == ["disc"]


def test_several_cts_of_a_patient_are_named_by_series_or_picked(tmp_path):
    uids = [write_ct(tmp_path / "d" / str(n), series=n)[0].SeriesInstanceUID for n in (1, 2)]
    told = run("lnq-dicom", "images", "d", "-O", "ct", cwd=tmp_path)
    assert told.status == 1
    assert told.out == ""
    assert "is one of 2 CT volumes of patient P1: --series or --description picks" in told.err
    named = succeed("lnq-dicom", "images", "d", "-O", "ct", "--name", "series", cwd=tmp_path)
    assert named.lines == [f"ct/{uid}.nii.gz" for uid in uids]
    picked = succeed(
        "lnq-dicom", "images", "d", "--series", uids[1], "-o", "one.nii.gz", cwd=tmp_path
    )
    assert picked.lines == ["one.nii.gz"]


def test_acquisitions_of_one_series_become_images_of_their_own(tmp_path):
    write_ct(tmp_path / "d")
    later = slices_of(ct_of() + 50)
    for k, image in enumerate(later):
        image.AcquisitionNumber = 2
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
    write(tmp_path / "d", later, name="b{}.dcm")
    told = succeed("lnq-dicom", "images", "d", "-O", "ct", cwd=tmp_path)
    assert told.lines == ["ct/P1-acquisition_1.nii.gz", "ct/P1-acquisition_2.nii.gz"]
    assert np.array_equal(load(tmp_path / told.lines[1]), ct_of() + 50)


@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        (lambda f: None, 1, "d: no such file or directory"),
        (lambda f: f.mkdir(), 1, "d: no DICOM file was found"),
        (lambda f: f.write_text("x"), 1, "d: is not a DICOM file"),
        (lambda f: write_ct(f, edit=as_mr), 1, "d: no CT was found; what is there is not a CT"),
        (lambda f: save(f / "a.nii.gz", ct_of()), 1, "d: no DICOM file was found"),
    ],
)
def test_what_is_no_folder_of_cts_says_so(make, status, said, tmp_path):
    make(tmp_path / "d")
    told = run("lnq-dicom", "images", "d", "-O", "ct", cwd=tmp_path)
    assert told.status == status
    assert told.out == ""
    assert said in told.err


def test_images_are_kept_replaced_or_refused_as_in_every_tool(tmp_path):
    write_ct(tmp_path / "d")
    call = ("lnq-dicom", "images", "d", "-O", "ct")
    succeed(*call, cwd=tmp_path)
    first = (tmp_path / "ct" / "P1.nii.gz").read_bytes()
    refused = run(*call, cwd=tmp_path)
    assert refused.status == 1
    assert "d: ct/P1.nii.gz exists; -f replaces it, -s keeps it" in refused.err
    kept = succeed(*call, "-s", "--table", "t.tsv", cwd=tmp_path)
    assert (kept.lines, kept.err) == (["ct/P1.nii.gz"], "")
    assert rows_of((tmp_path / "t.tsv").read_text())[0]["outcome"] == "kept"
    otherwise = run(*call, "-s", "--resample", cwd=tmp_path)
    assert "was made with --resample False, now True" in otherwise.err
    write_ct(tmp_path / "d", ct_of() + 1)
    changed = run(*call, "-s", cwd=tmp_path)
    assert "was made from another input" in changed.err
    succeed(*call, "-f", "-j", "2", cwd=tmp_path)
    assert (tmp_path / "ct" / "P1.nii.gz").read_bytes() != first
    write_ct(tmp_path / "d")
    succeed(*call, "-f", cwd=tmp_path)
    assert (tmp_path / "ct" / "P1.nii.gz").read_bytes() == first


def test_no_word_of_the_patient_is_in_an_image(tmp_path):
    write_ct(tmp_path / "d")
    succeed("lnq-dicom", "images", "d", "--nii", "-O", "ct", cwd=tmp_path)
    content = (tmp_path / "ct" / "P1.nii").read_bytes()
    for word in (b"Doe", b"Jane", b"19500102", b"20240506", b"Roe", b"P1"):
        assert word not in content


# masks


def test_masks_lie_on_the_images_that_images_made(case):
    slices = slices_of(ct_of(SHAPE), vendor="south")
    write_seg(case / "seg" / "s.dcm", slices, {"n1": nodes() == 1, "n2": nodes() == 2})
    succeed("lnq-dicom", "images", "dicom", "-O", "ct", cwd=case)
    call = ("lnq-dicom", "masks", "seg", "--like", "ct", "--uncovered", "background")
    assert succeed(*call, "-O", "out", cwd=case).lines == ["out/P1.nii.gz"]
    assert np.array_equal(load(case / "out" / "P1.nii.gz"), nodes() > 0)
    assert np.array_equal(matrix_of(case / "out" / "P1.nii.gz"), matrix_of(case / "ct/P1.nii.gz"))
    succeed(*call, "--instances", "-O", "numbered", cwd=case)
    assert np.array_equal(load(case / "numbered" / "P1.nii.gz"), nodes())
    succeed(*call, "--segments", "n2", "-o", "two.nii.gz", cwd=case)
    assert np.array_equal(load(case / "two.nii.gz"), nodes() == 2)
    kept = succeed(*call, "-O", "out", "-s", cwd=case)
    assert (kept.lines, kept.err) == (["out/P1.nii.gz"], "")


def test_slices_that_a_seg_does_not_hold_are_what_the_command_line_says(case):
    write_seg(case / "s.dcm", slices_of(ct_of(SHAPE)), {"n": nodes() > 0})
    call = ("lnq-dicom", "masks", "s.dcm", "--like", "mask/P1.nii.gz", "-o", "m.nii.gz")
    said = run(*call, cwd=case)
    assert said.status == 2
    assert "Missing option '--uncovered'" in said.err
    succeed(*call, "--uncovered", "unknown", cwd=case)
    wanted = (nodes() > 0).astype(int)
    wanted[[0, 7]] = 2
    assert np.array_equal(load(case / "m.nii.gz"), wanted)
    both = run(*call, "--uncovered", "unknown", "--instances", cwd=case)
    assert (both.status, both.err.count("exclude each other")) == (2, 1)
    assert is_training_label(read_label(case / "m.nii.gz"))


def test_a_ct_of_another_series_is_told(case):
    write_ct(case / "other", ct_of(SHAPE), series=7)
    for folder in ("dicom", "other"):
        succeed("lnq-dicom", "images", folder, "-O", f"ct-{folder}", cwd=case)
    write_seg(case / "s.dcm", slices_of(ct_of(SHAPE)), {"n": nodes() > 0})
    rest = ("--uncovered", "background", "-f", "-o", "m.nii.gz")
    same = succeed("lnq-dicom", "masks", "s.dcm", "--like", "ct-dicom", *rest, cwd=case)
    assert same.err == ""
    told = succeed("lnq-dicom", "masks", "s.dcm", "--like", "ct-other", *rest, cwd=case)
    assert "s.dcm: warning: was drawn on series" in told.err.replace("warning: s.dcm: ", "")


def test_what_is_not_installed_is_named(case):
    code = (
        "import sys\n"
        "sys.modules['highdicom'] = None\n"
        "from lnqtools.cli.dicom import main\n"
        "main(['export', 'mask/P1.nii.gz', '--dicom', 'dicom', '--as', 'seg', '-O', 'out', "
        "'--drawn', 'manual'])\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=case, check=False)
    assert done.returncode == 1
    assert "highdicom is not installed; pip install '.[dicom]'" in done.stderr


def test_a_real_rtstruct_gives_the_masks_that_others_made_of_it(real, tmp_path):
    archive = real / "nsclc-radiomics" / "LUNG1-003_dicom.tar.xz"
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    succeed("lnq-dicom", "images", "LUNG1-003", "-O", "ct", cwd=tmp_path)
    rest = ("--like", "ct", "--uncovered", "background", "--instances", "-o", "m.nii.gz")
    call = ("lnq-dicom", "masks", "LUNG1-003", "--segments", "gtv-3,GTV-1", *rest)
    succeed(*call, cwd=tmp_path)
    found = read_label(tmp_path / "m.nii.gz")
    assert names_in_header(found) == {1: "gtv-3", 2: "GTV-1"}
    for number, name in names_in_header(found).items():
        other = read_label(real / "nsclc-radiomics" / f"LUNG1-003_{name}.nii.gz")
        theirs = place(other.array, other.grid, found.grid, 0) > 0
        assert np.array_equal(found.array == number, theirs)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "nothing: no such file or directory"),
        (["mask"], "no SEG, RTSTRUCT or .seg.nrrd was found: nothing there is DICOM"),
        (["dicom"], "no SEG, RTSTRUCT or .seg.nrrd was found, but CT"),
        ([], "no input: name folders"),
        (["two"], "is one of 2 segmentations of P1: --description picks, or --name file"),
    ],
)
def test_what_holds_no_one_segmentation_says_so(arguments, said, case):
    for number in (1, 2):
        write_seg(case / "two" / f"{number}.dcm", slices_of(ct_of(SHAPE)), {"n": nodes() > 0})
    rest = ("--like", "mask", "--uncovered", "background", "-O", "out")
    told = run("lnq-dicom", "masks", *arguments, *rest, cwd=case)
    assert told.status != 0
    assert told.out == ""
    assert said in told.err


# export


def export(case: Path, kind: str, *rest, masks: str = "mask") -> Path:
    """Export the case's mask; return the file."""
    suffix = ".seg.nrrd" if kind == "seg.nrrd" else ".dcm"
    source = () if kind == "seg.nrrd" else ("--dicom", "dicom")
    drawn = () if {"--algorithm", "--drawn"} & {*rest} else ("--drawn", "manual")
    done = succeed(
        *("lnq-dicom", "export", f"{masks}/P1.nii.gz", "--as", kind, *source, *drawn),
        *(*rest, "-O", f"out-{kind}", "-f"),
        cwd=case,
    )
    assert done.lines == [f"out-{kind}/P1{suffix}"]
    return case / f"out-{kind}" / f"P1{suffix}"


@pytest.mark.parametrize("kind", ["seg", "rtstruct", "seg.nrrd"])
def test_what_is_exported_comes_back_to_the_voxel(kind, case):
    rest = ("--name", "file", "--uncovered", "background", "-f", "-o", "back.nii.gz")
    path = export(case, kind)
    succeed("lnq-dicom", "masks", path, "--like", "mask/P1.nii.gz", *rest, cwd=case)
    assert np.array_equal(load(case / "back.nii.gz"), nodes() > 0)
    path = export(case, kind, "--per-node", "--instances", masks="nodes")
    call = ("lnq-dicom", "masks", path, "--like", "mask/P1.nii.gz", *rest)
    if kind == "rtstruct":
        call = (*call, "--segments", "*")
    succeed(*call, "--instances", cwd=case)
    assert np.array_equal(load(case / "back.nii.gz"), nodes())


def test_highdicom_and_pydicom_read_the_seg_and_its_codes(case):
    highdicom = pytest.importorskip("highdicom")
    algorithm = ("--algorithm", "nnU-Net", "--algorithm-version", "2.8")
    path = export(case, "seg", "--per-node", *algorithm)
    seg = highdicom.seg.segread(path)
    assert seg.PatientID == "P1"
    source = pydicom.dcmread(case / "dicom" / "000.dcm")
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert str(seg.PatientName) == "Doe^Jane"
    assert seg.number_of_segments == 2
    for number in (1, 2):
        described = seg.get_segment_description(number)
        assert described.segment_label == f"Lymph node {number}"
        assert described.segmented_property_type == highdicom.sr.CodedConcept(
            "59441001", "SCT", "Lymph node"
        )
        assert described.algorithm_type.value == "AUTOMATIC"
        (identified,) = described.SegmentationAlgorithmIdentificationSequence
        assert (identified.AlgorithmName, identified.AlgorithmVersion) == ("nnU-Net", "2.8")
    volume = seg.get_volume(combine_segments=True, skip_overlap_checks=True)
    volume = volume.to_patient_orientation("HPL")
    position = np.array(volume.get_affine("LPS")[:3, 3])
    first = round((position[2] + 40) / 3)
    whole = np.zeros(SHAPE, int)
    whole[first : first + len(volume.array)] = volume.array
    assert np.array_equal(whole, nodes())


def converted(tool: str, *arguments) -> None:
    if not (BIN / tool).exists():
        pytest.skip(f"{tool} is not installed")
    subprocess.run([BIN / tool, *map(str, arguments)], check=True, capture_output=True)


def dice(path: Path, mask: np.ndarray) -> float:
    """Return the Dice of an image on the CT's lattice, in whatever order, and a mask."""
    import nibabel as nib

    image = nib.load(path)
    inside = np.argwhere(np.asanyarray(image.dataobj) > 0)
    world = nib.affines.apply_affine(image.affine, inside)
    at = nib.affines.apply_affine(np.linalg.inv(matrix_of_series()), world)
    found = {tuple(voxel) for voxel in np.rint(at).astype(int)[:, ::-1].tolist()}
    true = {tuple(voxel) for voxel in np.argwhere(mask).tolist()}
    return 2 * len(found & true) / (len(found) + len(true))


def test_dcmqi_reads_the_seg(case):
    path = export(case, "seg")
    (case / "q").mkdir()
    converted(
        *("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", case / "q"),
        *("-t", "nii", "-p", "s"),
    )
    assert dice(case / "q" / "s-1.nii.gz", nodes() > 0) == 1


def test_plastimatch_reads_the_rtstruct(case):
    path = export(case, "rtstruct", "--per-node")
    converted(
        *("plastimatch", "convert", "--input", path, "--referenced-ct", case / "dicom"),
        *("--output-prefix", case / "p", "--prefix-format", "nii.gz"),
    )
    found = {
        file.name: dice(file, nodes() == k)
        for k, file in enumerate(sorted((case / "p").glob("*.nii.gz")), 1)
    }
    assert list(found) == ["Lymph node 1.nii.gz", "Lymph node 2.nii.gz"]
    assert min(found.values()) >= 0.99


def test_simpleitk_reads_slicers_file_with_names_and_colors(case):
    import SimpleITK as sitk

    path = export(case, "seg.nrrd", "--per-node")
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), nodes())
    assert image.GetSpacing() == pytest.approx((0.5, 0.75, 3.0))
    assert image.GetOrigin() == pytest.approx((-12.5, -20.25, -40.0))
    said = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert [said[f"Segment{k}_Name"] for k in (0, 1)] == ["Lymph node 1", "Lymph node 2"]
    assert [said[f"Segment{k}_LabelValue"] for k in (0, 1)] == ["1", "2"]
    colors = [[float(part) for part in said[f"Segment{k}_Color"].split()] for k in (0, 1)]
    assert colors[0] != colors[1]
    assert "SCT^59441001^Lymph node" in said["Segment0_Tags"]
    assert said["Segment0_Extent"] == "0 27 0 23 0 7"
    label = succeed("lnq-filter-diameter", "--list", "--instances", path, cwd=case)
    assert len(rows_of(label.out)) == 2


def test_the_report_has_axes_and_volume_of_each_node_and_names_its_segment(case):
    highdicom = pytest.importorskip("highdicom")
    seg = pydicom.dcmread(export(case, "seg", "--per-node"))
    report = highdicom.sr.srread(export(case, "sr"))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 2
    assert [group.tracking_identifier for group in groups] == ["Lymph node 1", "Lymph node 2"]
    for k, group in enumerate(groups, 1):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert segment.referenced_segment_numbers[0] == k
        assert group.tracking_uid == seg.SegmentSequence[k - 1].TrackingUID
        assert group.finding_type.value == "59441001"
    values = {m.name.meaning.lower(): m.value for m in groups[1].get_measurements()}
    long_mm = np.hypot(5 * 0.75, 4 * 0.5)  # a box of 5 rows and 4 columns: its diagonal,
    short_mm = 2 * 5 * 0.75 * 4 * 0.5 / long_mm  # and both heights onto it
    assert values["long axis"] == pytest.approx(long_mm, abs=1e-3)
    assert values["short axis"] == pytest.approx(short_mm, abs=1e-3)
    assert values["volume"] == pytest.approx(40 * 3 * 0.75 * 0.5)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize("kind", ["seg", "rtstruct", "sr"])
@pytest.mark.parametrize("source", ["north", "south", "enhanced"])
def test_dciodvfy_finds_no_error(kind, source, case):
    shutil.rmtree(case / "dicom")
    if source == "enhanced":
        (case / "dicom").mkdir()
        write_one(case / "dicom" / "e.dcm", enhanced_ct(ct_of(SHAPE), True), PLAIN)
    else:
        write_ct(case / "dicom", ct_of(SHAPE), vendor=source)
    for how in ((), ("--algorithm", "nnU-Net")):
        path = export(case, kind, "--per-node", *how)
        done = subprocess.run(
            ["dciodvfy", "-new", path], capture_output=True, text=True, check=False
        )
        assert "Error" not in done.stdout + done.stderr
    if kind == "seg":
        rest = ("--name", "file", "--uncovered", "background", "-o", "b.nii.gz")
        succeed("lnq-dicom", "masks", path, "--like", "mask/P1.nii.gz", *rest, cwd=case)
        assert np.array_equal(load(case / "b.nii.gz"), nodes() > 0)


@pytest.mark.parametrize("kind", ["seg", "rtstruct", "sr", "seg.nrrd"])
def test_the_same_mask_makes_the_same_bytes_and_is_kept(kind, case):
    path = export(case, kind)
    first = path.read_bytes()
    assert export(case, kind).read_bytes() == first
    source = () if kind == "seg.nrrd" else ("--dicom", "dicom")
    call = ("lnq-dicom", "export", "mask/P1.nii.gz", "--as", kind, *source, "-O", f"out-{kind}")
    kept = succeed(*call, "--drawn", "manual", "-s", cwd=case)
    assert (len(kept.lines), kept.err) == (1, "")
    other = run(*call, "--drawn", "manual", "--per-node", "-s", cwd=case)
    assert "was made with --per-node" in other.err
    save_mask(case / "mask" / "P1.nii.gz", nodes() == 1)
    changed = run(*call, "--drawn", "manual", "-s", cwd=case)
    assert "was made from another input" in changed.err
    if source:
        save_mask(case / "mask" / "P1.nii.gz", nodes() > 0)
        write_ct(case / "dicom", ct_of(SHAPE) + 1, vendor="south")
        changed = run(*call, "--drawn", "manual", "-s", cwd=case)
        assert "was made from another --dicom dicom" in changed.err


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (["--as", "seg", "--dicom", "dicom"], "does not say what drew it: --algorithm NAME says"),
        (["--as", "seg"], "--as seg needs --dicom (see lnq-dicom export --help)"),
        (["--as", "seg.nrrd", "--dicom", "dicom"], "exclude each other"),
        (["--as", "sr", "--dicom", "mask", "--drawn", "manual"], "holds no CT series"),
        (["--as", "sr", "--dicom", "other", "--drawn", "manual"], "not lie on the grid of its CT"),
        (["--as", "sr", "--dicom", "many", "--drawn", "manual"], "no CT series in --dicom many"),
    ],
)
def test_what_cannot_be_exported_says_why(rest, said, case):
    write_ct(case / "other", ct_of())
    for patient in ("A", "B"):
        write_ct(case / "many" / patient, ct_of(SHAPE), patient=patient)
    told = run("lnq-dicom", "export", "mask/P1.nii.gz", *rest, "-O", "out", cwd=case)
    assert told.status != 0
    assert told.out == ""
    assert said in told.err


def test_masks_find_their_cts_by_name_among_many(case):
    for patient in ("P1", "P2"):
        write_ct(case / "many" / patient, ct_of(SHAPE), patient=patient)
    save_mask(case / "mask" / "P2.nii.gz", nodes() == 2)
    done = succeed(
        *("lnq-dicom", "export", "mask/P1.nii.gz", "mask/P2.nii.gz", "--dicom", "many"),
        *("--as", "seg", "--drawn", "manual", "-O", "out"),
        cwd=case,
    )
    assert done.lines == ["out/P1.dcm", "out/P2.dcm"]
    assert [pydicom.dcmread(case / line).PatientID for line in done.lines] == ["P1", "P2"]


def test_an_empty_mask_is_exported_as_what_it_is(case):
    save_mask(case / "mask" / "P1.nii.gz", nodes() > 9)
    for kind in ("seg", "rtstruct", "seg.nrrd"):
        path = export(case, kind)
        rest = ("--name", "file", "--uncovered", "background", "-f", "-o", "back.nii.gz")
        succeed("lnq-dicom", "masks", path, "--like", "mask/P1.nii.gz", *rest, cwd=case)
        assert not load(case / "back.nii.gz").any()


def test_a_refused_rule_names_its_command():
    told = run("lnq-dicom", "export", "x.nii.gz", "--as", "sr")
    assert told.err == "lnq-dicom: --as sr needs --dicom (see lnq-dicom export --help)\n"
