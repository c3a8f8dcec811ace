"""NIfTI headers against nibabel's, which ours do not use."""

import warnings

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.images.nifti_header import (
    FIELDS_1,
    FIELDS_2,
    MAX_QUATERNION,
    VOXEL_TYPES,
    NiftiHeader,
    nifti_1_bytes,
    quaternion_of,
    rotation_of,
)

KINDS = {348: (nib.Nifti1Header, FIELDS_1), 540: (nib.Nifti2Header, FIELDS_2)}
ORDERS = st.sampled_from(["<", ">"])
STEPS = st.floats(2**-7, 128, width=32)
PLACES = st.floats(-1e4, 1e4, width=32)
UNIT = st.floats(-1, 1, width=32)


def both(length: int, block: bytes, order: str) -> tuple[NiftiHeader, nib.Nifti1Header]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = KINDS[length][0](block, order, check=False)
    return NiftiHeader.parse(block, order), theirs


@pytest.mark.parametrize("length", KINDS)
def test_fields_lie_where_nibabel_has_them(length):
    kind, fields = KINDS[length]
    layout = kind.template_dtype.fields
    vectors = {"quatern": "quatern_b", "qoffset": "qoffset_x", "srow": "srow_x"}
    for name, (form, start) in fields.items():
        dtype, offset = layout[vectors.get(name, name)][:2]
        assert offset == start
        assert np.dtype(form).base == dtype.base


@given(st.sampled_from(sorted(KINDS)), ORDERS, st.binary(min_size=540, max_size=540))
def test_any_bytes_are_read_as_nibabel_reads_them(length, order, block):
    ours, theirs = both(length, block[:length], order)
    assert ours.dim == theirs["dim"].tolist()
    np.testing.assert_array_equal(ours.spacing, theirs["pixdim"][1:4])
    assert ours.code == theirs["datatype"]
    assert ours.unit == theirs["xyzt_units"] & 7
    assert (ours.has_sform, ours.has_qform) == (theirs["sform_code"] > 0, theirs["qform_code"] > 0)
    np.testing.assert_array_equal(ours.offset, float(theirs["vox_offset"]))
    scaling = [float(theirs["scl_slope"]), float(theirs["scl_inter"])]
    np.testing.assert_array_equal(ours.scaling, scaling)
    if ours.has_sform:
        np.testing.assert_array_equal(ours.sform, theirs.get_sform())
    ours.qform  # noqa: B018  it may be odd, and no warning is


@given(
    st.sampled_from(sorted(KINDS)),
    ORDERS,
    st.tuples(UNIT, UNIT, UNIT),
    st.tuples(STEPS, STEPS, STEPS),
    st.tuples(PLACES, PLACES, PLACES),
    st.sampled_from([-1.0, 1.0]),
)
def test_a_rotation_is_read_as_nibabel_reads_it(length, order, vector, steps, origin, side):
    header = KINDS[length][0](endianness=order)
    header["pixdim"][:4] = [side, *steps]
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = vector
    header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = origin
    header["qform_code"] = 1
    ours, theirs = both(length, header.binaryblock, order)
    if np.linalg.norm(vector) > 1:  # nibabel takes less of that in NIfTI-2 than in NIfTI-1
        assert (ours.qform is None) == (np.linalg.norm(vector) > MAX_QUATERNION)
        return
    np.testing.assert_allclose(ours.qform, theirs.get_qform(), rtol=1e-6, atol=1e-6 * max(steps))


@pytest.mark.parametrize("code", [*range(20), 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 2304])
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_of_voxels_are_nibabels_plain_numbers(code, order):
    header = nib.Nifti1Header(endianness=order)
    header["datatype"] = code
    ours = NiftiHeader.parse(header.binaryblock, order).voxel_type
    if code in VOXEL_TYPES:
        assert ours == header.get_data_dtype()
    else:
        assert ours is None


@given(st.tuples(UNIT, UNIT, UNIT, UNIT).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_quaternion_comes_back_from_its_rotation(quaternion):
    whole = np.array(quaternion, float) / np.linalg.norm(quaternion)
    rotation = rotation_of(whole)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    back = quaternion_of(rotation)
    assert back[0] >= 0
    np.testing.assert_allclose(rotation_of(back), rotation, atol=1e-12)


@given(
    st.tuples(*[st.integers(1, 32767)] * 3),
    st.sampled_from(sorted(VOXEL_TYPES.values())),
    st.tuples(STEPS, STEPS, STEPS),
    st.tuples(PLACES, PLACES, PLACES),
    st.tuples(UNIT, UNIT, UNIT, UNIT).filter(lambda q: np.linalg.norm(q) > 0.1),
    st.booleans(),
)
def test_a_header_that_is_written_is_nibabels(shape, name, steps, origin, quaternion, mirrored):
    affine = np.eye(4)
    axes = rotation_of(np.array(quaternion, float))
    axes[:, 0] *= -1 if mirrored else 1
    affine[:3, :3] = axes * steps
    affine[:3, 3] = origin
    dtype = np.dtype(name)
    block = nifti_1_bytes(shape, dtype, steps, affine, 352)
    theirs = nib.Nifti1Header(block)
    theirs.check_fix(error_level=10)
    expected = nib.Nifti1Header()
    expected.set_data_shape(shape)
    expected.set_data_dtype(dtype)
    expected["scl_slope"], expected["scl_inter"] = 1, 0
    expected.set_xyzt_units("mm")
    expected.set_qform(affine, code=1)
    expected.set_sform(affine, code=1)
    expected["pixdim"][1:4] = steps
    expected["vox_offset"] = 352
    for field in expected.keys():  # noqa: SIM118  a header is not a dict
        if field.startswith("quatern"):
            continue
        np.testing.assert_array_equal(theirs[field], expected[field], field)
    # A quaternion in float32 tells nothing of a turn by 180° less up to .07°.
    np.testing.assert_allclose(theirs.get_qform(), affine, rtol=1e-4, atol=2e-3 * max(steps))


@pytest.mark.parametrize("axes", [(-1, -1, 1), (1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_a_straight_header_is_nibabels_to_the_byte(axes):
    affine = np.diag([0.75 * axes[0], 0.75 * axes[1], 3.0 * axes[2], 1])
    affine[:3, 3] = 10, -20.5, 300
    expected = nib.Nifti1Header()
    expected.set_data_shape((4, 5, 6))
    expected.set_data_dtype(np.int16)
    expected["scl_slope"], expected["scl_inter"] = 1, 0
    expected.set_xyzt_units("mm")
    expected.set_qform(affine, code=1)
    expected.set_sform(affine, code=1)
    expected["vox_offset"] = 352
    block = nifti_1_bytes((4, 5, 6), np.dtype(np.int16), (0.75, 0.75, 3), affine, 352)
    # A rotation by half a turn may be written by either of two quaternions.
    assert block[:256] == expected.binaryblock[:256]
    assert block[268:] == expected.binaryblock[268:]
    np.testing.assert_array_equal(nib.Nifti1Header(block).get_qform(), affine)


def test_without_axes_nothing_is_said_of_them():
    header = nib.Nifti1Header(nifti_1_bytes((2, 3, 4), np.dtype("u1"), (1, 2, 3), None, 352))
    assert (header["sform_code"], header["qform_code"]) == (0, 0)
    assert header.get_zooms() == (1, 2, 3)


def test_a_type_without_a_code_is_refused():
    with pytest.raises(KeyError):
        nifti_1_bytes((1, 1, 1), np.dtype(np.complex64), (1, 1, 1), None, 352)
