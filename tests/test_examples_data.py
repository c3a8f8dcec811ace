"""The data recipes: from archives as they are downloaded to the folders of the README's recipe."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from zlib import crc32

import nibabel as nib
import numpy as np
import pytest

from tests.cli.helpers import rows_of
from tests.conftest import BIN, ROOT, Result, load, matrix_of, save, shell, succeed
from tests.dicom_data import write_seg

SCRIPTS = ROOT / "examples" / "data"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.sh") if path.stem != "lib")
SPACING = (2.0, 2.0, 3.0)
SHAPE = (20, 48, 64)
"""Slices from the feet up, rows to the back, columns to the left: as DICOM has them."""
UID = "1.2.826.0.1.3680043.8.498."


def origin_of(patient: str) -> np.ndarray:
    """Return where a patient's first voxel lies (LPS), which no other's image reaches."""
    x, y, z = np.unravel_index(crc32(patient.encode()) % 1000, (10, 10, 10))
    return np.array([-63.0, -63.0, -30.0]) + np.array([150.0, 110.0, 70.0]) * (x, y, z)


def needs(*tools: str):
    """Skip a test where a converter is not installed."""
    missing = [tool for tool in tools if not (BIN / tool).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_seg = needs("dcm2niix", "segimage2itkimage")
needs_rtstruct = needs("dcm2niix", "plastimatch")
needs_dcm2niix = needs("dcm2niix")


def recipe(script: str, folder: Path, *arguments) -> Result:
    """Run a script as a user does, in a folder; nothing but results is on standard output."""
    words = " ".join(f"'{word}'" for word in arguments)
    done = shell(f"'{SCRIPTS / script}.sh' {words}", folder, forked=True)
    assert "Traceback" not in done.err
    return done


def thorax() -> np.ndarray:
    """Return HU (z, y, x): a body, lungs at its sides, a spine at its back, tissue between."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 6:42, 6:58] = 40
    hu[:, 10:36, 10:24] = hu[:, 10:36, 40:54] = -850
    hu[:, 34:40, 28:36] = 700
    return hu


def box(z: slice, y: slice, x: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[z, y, x] = 1
    return mask


FRONT = box(slice(4, 9), slice(8, 13), slice(29, 35))
"""In front of the spine: mirrored front to back it lies in bone."""
SIDE = box(slice(11, 14), slice(20, 24), slice(26, 29))


def write_ct(folder: Path, patient: str, number: int = 1, left_out: tuple[int, ...] = ()) -> list:
    """Write a CT series of thorax(), the second brighter, one file per slice; return the slices."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True)
    study = UID + str(sum(patient.encode()))
    origin = origin_of(patient)
    slices = []
    for k, plane in enumerate(thorax()):
        if k in left_out:
            continue
        image = pydicom.Dataset()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
        uid = f"{study}.{number}.{k + 1}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = uid
        image.PatientID, image.PatientName, image.Modality = patient, "A^B", "CT"
        image.PatientBirthDate = image.PatientSex = image.StudyID = image.AccessionNumber = ""
        image.StudyDate, image.StudyTime = "20200101", "120000"
        image.ReferringPhysicianName = image.Manufacturer = ""
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.StudyInstanceUID, image.SeriesInstanceUID = study, f"{study}.{number}"
        image.FrameOfReferenceUID = f"{study}.9"
        image.SeriesNumber, image.InstanceNumber = number, k + 1
        image.PatientPosition = "HFS"
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [*origin[:2], origin[2] + k * SPACING[2]]
        image.PixelSpacing, image.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        image.Rows, image.Columns = plane.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.RescaleIntercept, image.RescaleSlope = 0, 1
        image.PixelData = (plane + np.int16(5 * (number - 1))).tobytes()
        image.save_as(folder / f"{k:03}.dcm", enforce_file_format=True)
        slices.append(image)
    return slices


def write_rtstruct(path: Path, slices: list, rois: dict[str, np.ndarray]) -> None:
    """Write an RTSTRUCT with the outline of a box per ROI, along the middle of its voxels' rim."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

    def dataset(**elements):
        made = pydicom.Dataset()
        for name, value in elements.items():
            setattr(made, name, value)
        return made

    def outline(mask: np.ndarray, k: int) -> list[float]:
        rows, columns = np.nonzero(mask[k])
        x = [origin[0] + SPACING[0] * c for c in (columns.min() - 0.5, columns.max() + 0.5)]
        y = [origin[1] + SPACING[1] * r for r in (rows.min() - 0.5, rows.max() + 0.5)]
        z = origin[2] + SPACING[2] * k
        return [
            v
            for corner in ((0, 0), (1, 0), (1, 1), (0, 1))
            for v in (x[corner[0]], y[corner[1]], z)
        ]

    first = slices[0]
    origin = origin_of(first.PatientID)
    series = dataset(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[
            dataset(ReferencedSOPClassUID=s.SOPClassUID, ReferencedSOPInstanceUID=s.SOPInstanceUID)
            for s in slices
        ],
    )
    study = dataset(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    frame = dataset(
        FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study]
    )
    made = dataset(
        SOPClassUID=RTStructureSetStorage,
        SOPInstanceUID=first.StudyInstanceUID + ".7.1",
        Modality="RTSTRUCT",
        PatientID=first.PatientID,
        PatientName="A^B",
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=first.StudyInstanceUID + ".7",
        FrameOfReferenceUID=first.FrameOfReferenceUID,
        StructureSetLabel="made",
        ReferencedFrameOfReferenceSequence=[frame],
        StructureSetROISequence=[
            dataset(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
                ROIName=name,
                ROIGenerationAlgorithm="",
            )
            for number, name in enumerate(rois, 1)
        ],
        ROIContourSequence=[
            dataset(
                ROIDisplayColor=[255, 0, 0],
                ReferencedROINumber=number,
                ContourSequence=[
                    dataset(
                        ContourGeometricType="CLOSED_PLANAR",
                        NumberOfContourPoints=4,
                        ContourData=outline(mask, k),
                        ContourImageSequence=[
                            dataset(
                                ReferencedSOPClassUID=slices[k].SOPClassUID,
                                ReferencedSOPInstanceUID=slices[k].SOPInstanceUID,
                            )
                        ],
                    )
                    for k in np.flatnonzero(mask.any(axis=(1, 2))).tolist()
                ],
            )
            for number, mask in enumerate(rois.values(), 1)
        ],
    )
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


def write_dicomdir(path: Path, slices: list) -> None:
    """Write the index that comes on a CD; it is DICOM, but no image."""
    from pydicom.fileset import FileSet

    index = FileSet()
    for image in slices:
        image.StudyID = "1"
        index.add(image)
    index.write(path.with_name("cd"))
    index._stage["t"].cleanup()  # a temporary folder that pydicom leaves to the garbage collector
    (path.with_name("cd") / "DICOMDIR").rename(path)
    shutil.rmtree(path.with_name("cd"))


def lps(path: Path) -> np.ndarray:
    """Read an image with the axes of DICOM slices, whatever way it is stored."""
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt("LPS")
    )
    return np.asanyarray(image.as_reoriented(turn).dataobj).transpose(2, 1, 0)


def assert_pair(ct: Path, mask: Path, expected: np.ndarray) -> None:
    """Hold a CT and a mask against thorax() and what was drawn, and their grids together."""
    np.testing.assert_array_equal(lps(ct), thorax())
    np.testing.assert_array_equal(lps(mask), expected)
    np.testing.assert_allclose(matrix_of(mask), matrix_of(ct), atol=1e-4)
    assert load(mask).dtype == np.uint8
    corner = nib.affines.apply_affine(matrix_of(ct), np.array(SHAPE)[::-1] - 1) * [-1, -1, 1]
    origin = origin_of(ct.name.removesuffix(".nii.gz"))
    ends = np.array([origin, origin + (np.array(SHAPE)[::-1] - 1) * SPACING])
    assert all(np.isclose(ends[:, axis], corner[axis]).any() for axis in range(3))


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    images = [path for path in folder.rglob("*.nii.gz") if "work" not in path.parts]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in images}


@needs_rtstruct
def test_the_real_ct_and_rtstruct_become_what_others_made_of_them(real, tmp_path):
    """The reference was made from the same archive, apart from this project."""
    pytest.importorskip("pydicom")
    given = real / "nsclc-radiomics"
    archive = given / "LUNG1-003_dicom.tar.xz"
    done = recipe("nsclc-radiomics", tmp_path, archive, "an out")
    assert (done.status, done.lines) == (0, ["an out/tumour/LUNG1-003.nii.gz"]), done.err
    out = tmp_path / "an out"
    for made, reference in (("ct", "ct"), ("tumour", "GTV-1")):
        image = out / made / "LUNG1-003.nii.gz"
        np.testing.assert_array_equal(lps(image), lps(given / f"LUNG1-003_{reference}.nii.gz"))
    assert matrix_of(out / "tumour/LUNG1-003.nii.gz") == pytest.approx(
        matrix_of(out / "ct/LUNG1-003.nii.gz")
    )
    checks = out / "checks" / "nsclc-radiomics" / "tumour"
    (row,) = rows_of((checks / "fit.tsv").read_text())
    assert (row["status"], row["voxels"], row["volume_ml"]) == ("ok", "12159", "34.818")
    (component,) = rows_of((checks / "components.tsv").read_text())
    assert component["voxels"] == "12159"
    assert (checks / "sheet.png").read_bytes().startswith(b"\x89PNG")

    before = stamps(out)
    again = recipe("nsclc-radiomics", tmp_path, archive, "an out")
    assert (again.status, again.lines) == (0, done.lines)
    assert stamps(out) == before
    assert len(before) == 2


@needs_seg
def test_the_segment_named_heart_is_the_tumour(tmp_path):
    source = tmp_path / "down load"
    slices = write_ct(source / "R01-001" / "a", "R01-001")
    write_ct(source / "R01-001" / "b", "R01-001", number=2)
    shutil.copy(source / "R01-001" / "a" / "000.dcm", source / "downloaded twice.dcm")
    write_seg(source / "R01-001" / "seg.dcm", slices, {"Heart": FRONT}, "3D Slicer result")
    write_seg(source / "R01-001" / "ai.dcm", slices, {"Nodule": SIDE}, "AIMI lung and nodule")
    slices = write_ct(source / "R01-002" / "a", "R01-002")
    write_seg(source / "R01-002" / "seg.dcm", slices, {"tissue": SIDE}, "ePAD Generated DSO")
    slices = write_ct(source / "R01-003" / "a", "R01-003")
    write_seg(source / "R01-003" / "seg.dcm", slices, {"Lung": SIDE, "Cord": FRONT}, "other")
    (source / "LICENSE").write_text("not DICOM\n")
    write_dicomdir(source / "DICOMDIR", slices)
    done = recipe("nsclc-radiogenomics", tmp_path, source, "out")
    assert done.status == 1
    assert done.lines == [f"out/tumour/R01-00{n}.nii.gz" for n in (1, 2)]
    for n, drawn in ((1, FRONT), (2, SIDE)):
        images = (tmp_path / "out" / kind / f"R01-00{n}.nii.gz" for kind in ("ct", "tumour"))
        assert_pair(*images, drawn)
    links = (tmp_path / "out/work/nsclc-radiogenomics/R01-001/ct").iterdir()
    used = sorted(path.resolve() for path in links)
    assert used == sorted((source / "R01-001" / "a").resolve().iterdir())
    assert "mask.py: R01-003: no segment is named" in done.err
    assert "there are 'Lung', 'Cord'\n" in done.err
    assert "1 cases failed" in done.err
    assert not (tmp_path / "out" / "tumour" / "R01-003.nii.gz").exists()
    assert "tumour: 2 cases; the whole set has 144" in done.err


@needs_rtstruct
def test_the_first_experts_outline_is_taken(tmp_path):
    source = tmp_path / "source"
    rois = {"GTV-1vis-2": SIDE, "GTV-1vis-1": FRONT, "GTV-1auto-1": SIDE}
    write_rtstruct(source / "rt.dcm", write_ct(source / "ct", "interobs05"), rois)
    write_ct(source / "without", "interobs99")
    done = recipe("nsclc-interobserver", tmp_path, source, "out")
    assert (done.status, done.lines) == (0, ["out/tumour/interobs05.nii.gz"]), done.err
    images = (tmp_path / "out" / kind / "interobs05.nii.gz" for kind in ("ct", "tumour"))
    assert_pair(*images, FRONT)


@needs_rtstruct
def test_a_patient_without_a_tumour_is_left_out_and_a_missing_roi_named(tmp_path):
    for patient, roi in (("LUNG1-128", "Heart"), ("LUNG1-127", "gtv-1"), ("LUNG1-129", "GTV-2")):
        source = tmp_path / "source" / patient
        write_rtstruct(source / "rt.dcm", write_ct(source / "ct", patient), {roi: FRONT})
    done = recipe("nsclc-radiomics", tmp_path, "source", "out")
    assert (done.status, done.lines) == (1, ["out/tumour/LUNG1-127.nii.gz"])
    assert "LUNG1-128: left out, it has no GTV-1\n" in done.err
    assert "LUNG1-129: 0 ROIs are named GTV-1; there are GTV-2\n" in done.err
    assert "1 cases failed" in done.err


@needs_seg
def test_lnq_masks_go_where_their_annotation_belongs(tmp_path):
    source = tmp_path / "source"
    nodes = {"1": FRONT, "2": SIDE}
    for patient, description in (
        ("case_0005", "Partially Annotated"),
        ("case_0002", "Fully Annotated"),
        ("case_0009", "Segmentation"),
    ):
        slices = write_ct(source / patient / "ct", patient)
        write_seg(source / patient / "seg.dcm", slices, nodes, description)
    done = recipe("lnq2023", tmp_path, source, "out")
    assert done.status == 1
    assert done.lines == ["out/test/truth/case_0002.nii.gz", "out/weak/case_0005.nii.gz"]
    assert "case_0009: its SEG says neither Partially nor Fully Annotated\n" in done.err
    out = tmp_path / "out"
    assert_pair(out / "ct/case_0005.nii.gz", out / "weak/case_0005.nii.gz", FRONT | SIDE)
    truth = out / "test/truth/case_0002.nii.gz"
    assert_pair(out / "test/ct/case_0002.nii.gz", truth, FRONT | SIDE)
    components = rows_of((out / "checks/lnq2023/weak/components.tsv").read_text())
    assert [int(row["voxels"]) for row in components] == [FRONT.sum(), SIDE.sum()]
    # dcmqi writes the drawn slices alone: outside them a complete annotation is background.
    weak = out / "weak/case_0005.nii.gz"
    for mask, strategy, rest in ((weak, "mask", 2), (truth, "full", 0)):
        succeed("lnq-weaklabel", mask, "--strategy", strategy, "-O", tmp_path / strategy)
        label = lps(tmp_path / strategy / mask.name)
        np.testing.assert_array_equal(label, np.where(FRONT | SIDE, 1, rest))


def test_a_mask_of_another_size_is_put_onto_the_cts_grid(tmp_path):
    """Half as many rows and columns, as some of the challenge's: each voxel becomes four."""
    import SimpleITK as sitk

    def write(name: str, array: np.ndarray, factor: int) -> None:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((SPACING[0] * factor, SPACING[1] * factor, SPACING[2]))
        shift = (factor - 1) / 2
        image.SetOrigin(
            origin_of(f"lnq2023-{name.rpartition('-')[0]}") + shift * np.array([*SPACING[:2], 0])
        )
        sitk.WriteImage(image, tmp_path / "lnq" / f"lnq2023-{name}.nrrd", useCompression=True)

    (tmp_path / "lnq").mkdir()
    coarse = np.zeros((SHAPE[0], SHAPE[1] // 2, SHAPE[2] // 2), np.uint8)
    coarse[4:9, 4:7, 14:17] = 2
    for case in ("train-0001", "val-0001", "train-0002"):
        write(f"{case}-ct", thorax(), 1)
    write("train-0001-seg", coarse, 2)
    write("val-0001-seg", FRONT, 1)
    done = recipe("lnq2023", tmp_path, "lnq", "out")
    assert done.status == 1
    kept = ["out/weak/lnq2023-train-0001.nii.gz", "out/test/truth/lnq2023-val-0001.nii.gz"]
    assert done.lines == kept
    assert "do not meet: interpolated (nearest)" in done.err
    assert "lnq2023-train-0002: no lnq/lnq2023-train-0002-seg.nrrd beside its CT\n" in done.err
    out = tmp_path / "out"
    fine = (coarse != 0).repeat(2, axis=1).repeat(2, axis=2)
    train = (out / kind / "lnq2023-train-0001.nii.gz" for kind in ("ct", "weak"))
    assert_pair(*train, fine)
    val = (out / "test" / kind / "lnq2023-val-0001.nii.gz" for kind in ("ct", "truth"))
    assert_pair(*val, FRONT)


def lps_affine(patient: str) -> np.ndarray:
    """Return where a patient's voxels lie, for masks that are stored as DICOM slices are."""
    matrix = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    matrix[:3, 3] = origin_of(patient) * [-1, -1, 1]
    return matrix


@needs_dcm2niix
def test_instances_become_one_and_a_mirrored_mask_is_held_back(tmp_path):
    instances = FRONT * 3 + SIDE
    masks = tmp_path / "masks"
    for case, mask in (
        ("MED_LYMPH_001", instances),
        ("MED_LYMPH_002", instances[:, ::-1]),
        ("ABD_LYMPH_001", instances),
    ):
        write_ct(tmp_path / "source" / case, case)
        save(masks / case / f"{case}_mask.nii.gz", mask, lps_affine(case))
    write_ct(tmp_path / "source" / "MED_LYMPH_003", "MED_LYMPH_003")
    away = lps_affine("MED_LYMPH_003")
    away[2, 3] += 14 * SPACING[2]  # two slices of FRONT are left
    save(masks / "MED_LYMPH_003_mask.nii.gz", FRONT | SIDE, away)
    shutil.make_archive(str(masks), "zip", masks)
    call = ("ct-lymph-nodes", tmp_path)
    done = recipe(*call, "source", "masks.zip", "out")
    assert (done.status, done.lines) == (1, ["out/full/MED_LYMPH_001.nii.gz"])
    out = tmp_path / "out"
    first = (out / kind / "MED_LYMPH_001.nii.gz" for kind in ("ct", "full"))
    assert_pair(*first, FRONT | SIDE)
    left = FRONT[4:6].sum() / (FRONT | SIDE).sum()
    assert f"MED_LYMPH_003: only {left:.0%} of what is drawn lies on the CT" in done.err
    assert re.search(
        r"MED_LYMPH_002: \d+% of it lies in soft tissue, but 100% if mirrored", done.err
    )
    flips = out / "checks" / "ct-lymph-nodes" / "flips.tsv"
    assert flips.read_text() == "MED_LYMPH_002\ty\n"
    held = out / "work" / "ct-lymph-nodes" / "MED_LYMPH_002" / "placed.nii.gz"
    np.testing.assert_array_equal(lps(held), (FRONT | SIDE)[:, ::-1])

    shutil.copy(flips, tmp_path / "looked at.tsv")
    (masks / "MED_LYMPH_003_mask.nii.gz").unlink()
    done = recipe(*call, "-f", "looked at.tsv", "source", "masks.zip", "out")
    assert done.lines == [f"out/full/MED_LYMPH_00{n}.nii.gz" for n in (1, 2)]
    second = (out / kind / "MED_LYMPH_002.nii.gz" for kind in ("ct", "full"))
    assert_pair(*second, FRONT | SIDE)
    rows = rows_of((out / "checks/ct-lymph-nodes/full/fit.tsv").read_text())
    assert [row["status"] for row in rows] == ["ok", "mirrored y"]
    assert not flips.exists()
    assert not list((out / "full").glob("ABD*"))
    assert (out / "checks/ct-lymph-nodes/full/sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "lnq-plot" not in done.err  # each row at its own place, wherever the patients lie


@needs_seg
def test_ct_lymph_nodes_also_come_as_segs(tmp_path):
    slices = write_ct(tmp_path / "source" / "a", "MED_LYMPH_001")
    nodes = {"node 1": FRONT, "node 2": SIDE}
    write_seg(tmp_path / "source" / "seg.dcm", slices, nodes, "Lymph node segmentations")
    done = recipe("ct-lymph-nodes", tmp_path, "source", "out")
    assert (done.status, done.lines) == (0, ["out/full/MED_LYMPH_001.nii.gz"]), done.err
    images = (tmp_path / "out" / kind / "MED_LYMPH_001.nii.gz" for kind in ("ct", "full"))
    assert_pair(*images, FRONT | SIDE)


def test_refined_masks_find_their_ct_by_number(tmp_path):
    out = tmp_path / "out"
    for number in (1, 7, 43, 44, 80):
        case = f"MED_LYMPH_{number:03}"
        save(out / "ct" / f"{case}.nii.gz", thorax(), lps_affine(case))
    masks = tmp_path / "masks"
    save(masks / "1_LymphNodes.nii.gz", FRONT, lps_affine("MED_LYMPH_001"))
    save(masks / "1_Stations.nii.gz", SIDE, lps_affine("MED_LYMPH_001"))
    save(masks / "007_LymphNodes.nii.gz", FRONT[:, ::-1], lps_affine("MED_LYMPH_007"))
    save(masks / "80_LymphNodes.nii.gz", np.zeros_like(FRONT), lps_affine("MED_LYMPH_080"))
    done = recipe("bouget", tmp_path, "-p", "*Nodes.nii.gz", "masks", "out")
    assert (done.status, done.lines) == (1, ["out/refined/MED_LYMPH_001.nii.gz"])
    first = (out / kind / "MED_LYMPH_001.nii.gz" for kind in ("ct", "refined"))
    assert_pair(*first, FRONT)
    assert "MED_LYMPH_043: has no refined mask, as published\n" in done.err
    assert "MED_LYMPH_044: 0 of the masks have its number, not one" in done.err
    assert "80_LymphNodes.nii.gz: nothing is drawn in it\n" in done.err
    assert (out / "checks/bouget/flips.tsv").read_text() == "MED_LYMPH_007\ty\n"
    assert "3 cases failed" in done.err
    done = recipe("bouget", tmp_path, "masks", "out")  # what is there is not looked for again
    assert done.lines == ["out/refined/MED_LYMPH_001.nii.gz"]
    (tmp_path / "flips").write_text("MED_LYMPH_007\t\n")  # looked at, and right as it is
    done = recipe("bouget", tmp_path, "-f", "flips", "-p", "*Nodes.nii.gz", "masks", "out")
    assert done.lines == [f"out/refined/MED_LYMPH_00{n}.nii.gz" for n in (1, 7)]
    np.testing.assert_array_equal(lps(out / "refined/MED_LYMPH_007.nii.gz"), FRONT[:, ::-1])
    done = recipe("bouget", tmp_path, "masks", "new")
    assert (done.status, done.out) == (2, "")
    assert "bouget.sh: new/ct: no MED_LYMPH_*.nii.gz in it" in done.err


@needs_seg
def test_a_missing_slice_is_filled_and_said(tmp_path):
    """dcm2niix then writes two images; the one with slices where they belong is taken."""
    slices = write_ct(tmp_path / "source" / "ct", "R01-001", left_out=(15,))
    drawn = {"Heart": np.delete(FRONT, 15, axis=0)}
    write_seg(tmp_path / "source" / "seg.dcm", slices, drawn, "drawn")
    done = recipe("nsclc-radiogenomics", tmp_path, "source", "out")
    assert done.status == 0, done.err
    assert "R01-001: its slices are not evenly spaced or are tilted" in done.err
    images = (tmp_path / "out" / kind / "R01-001.nii.gz" for kind in ("ct", "tumour"))
    assert_pair(*images, FRONT)


@needs_seg
@pytest.mark.parametrize("left", [0, 400])
def test_a_file_that_was_cut_off_is_named(left, tmp_path):
    slices = write_ct(tmp_path / "source" / "ct", "R01-001")
    write_seg(tmp_path / "source" / "seg.dcm", slices, {"Heart": FRONT}, "drawn")
    cut = tmp_path / "source" / "ct" / "015.dcm"
    cut.write_bytes(cut.read_bytes()[:left])
    done = recipe("nsclc-radiogenomics", tmp_path, "source", "out")
    assert (done.status, done.lines) == (1, ["out/tumour/R01-001.nii.gz"])
    assert "sort_dicom.py: source/ct/015.dcm: is cut off; download it again\n" in done.err
    assert "R01-001: its slices are not evenly spaced" in done.err


@needs_seg
def test_slices_without_all_their_voxels_make_no_ct(tmp_path):
    slices = write_ct(tmp_path / "source" / "ct", "R01-001")
    write_seg(tmp_path / "source" / "seg.dcm", slices, {"Heart": FRONT}, "drawn")
    cut = tmp_path / "source" / "ct" / "015.dcm"
    cut.write_bytes(cut.read_bytes()[:-1000])
    done = recipe("nsclc-radiogenomics", tmp_path, "source", "out")
    assert (done.status, done.out) == (1, "")
    log = "out/work/nsclc-radiogenomics/R01-001/dcm2niix.log"
    assert f"R01-001: dcm2niix made 0 images of its CT, not one (see {log})\n" in done.err
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


@needs_seg
def test_what_does_not_belong_together_is_refused(tmp_path):
    slices = write_ct(tmp_path / "source" / "a" / "ct", "R01-001")
    for name in ("one", "two"):
        write_seg(tmp_path / f"source/a/{name}.dcm", slices, {"Heart": FRONT}, name)
    slices = write_ct(tmp_path / "source" / "b" / "ct", "R01-002")
    write_seg(tmp_path / "source" / "b" / "seg.dcm", slices, {"Heart": FRONT}, "drawn")
    shutil.rmtree(tmp_path / "source" / "b" / "ct")
    done = recipe("nsclc-radiogenomics", tmp_path, "source", "out")
    assert (done.status, done.out) == (1, "")
    paths = "source/a/one.dcm, source/a/two.dcm"
    assert f"sort_dicom.py: R01-001: it has 2 annotations; keep one of {paths}\n" in done.err
    assert "R01-002: the CT that source/b/seg.dcm was drawn on is not there\n" in done.err


@needs_rtstruct
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nsclc-radiomics.sh: nowhere: no such folder or archive"),
        ("empty", "sort_dicom.py: empty: holds no RTSTRUCT that is wanted, among 0 DICOM files"),
        ("no.zip", "nsclc-radiomics.sh: no.zip: cannot be unpacked"),
        ("a.txt", "nsclc-radiomics.sh: a.txt: neither a folder nor a .zip or .tar archive"),
    ],
)
def test_a_source_that_is_none_is_said_in_one_line(source, message, tmp_path):
    pytest.importorskip("pydicom")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    (tmp_path / "a.txt").write_text("text\n")
    done = recipe("nsclc-radiomics", tmp_path, source, "out")
    assert (done.status, done.err.splitlines()[-1], done.out) == (2, message, "")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("bouget", "lnq2023")])
def test_a_missing_converter_is_named_with_what_brings_it(name, tmp_path):
    if shutil.which("dcm2niix", path="/usr/bin:/bin"):
        pytest.skip("the system has a dcm2niix of its own")
    done = shell(f"PATH=/usr/bin:/bin; '{SCRIPTS / name}.sh' source out", tmp_path)
    message = f"{name}.sh: dcm2niix is not installed; pip install dcm2niix\n"
    assert (done.status, done.err, done.out) == (2, message, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_each_script_tells_its_use_and_has_a_row(name, tmp_path):
    helped = recipe(name, tmp_path, "-h")
    assert (helped.status, helped.err) == (0, "")
    assert f"\nUsage: {name}.sh [-f FILE]" in helped.out
    assert "shellcheck" not in helped.out
    wrong = recipe(name, tmp_path, "-x", "a", "b")
    assert (wrong.status, wrong.out) == (2, "")
    assert (
        wrong.err == f"{name}.sh: unknown option, or one without its value: -x (see {name}.sh -h)\n"
    )
    none = recipe(name, tmp_path)
    assert (none.status, none.out, none.err.count("\n")) == (2, "", 1)
    assert f"[`{name}.sh`]({name}.sh)" in (SCRIPTS / "README.md").read_text()
    assert list(tmp_path.iterdir()) == []
