"""An image without a label as a network wants it: nnU-Net's preprocessing, with less work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lnqtools.images.box import bounding_box

if TYPE_CHECKING:
    from lnqtools.nnunet.model import Model


def prepare_image(
    preprocessor: Any, model: Model, image: npt.NDArray, spacing: Sequence[float]
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Return what nnU-Net's ``run_case_npy`` does of an image, and what it tells of that.

    It makes a label of what it cuts off, whose holes it fills: half of its time, and of use to a
    normalization within that label alone; with one of these, or another preprocessor than
    nnU-Net's own, that function is called. Where holes are filled does not change the box.

    Parameters
    ----------
    preprocessor : DefaultPreprocessor
    model : Model
    image : (z, y, x) ndarray
        Not all 0.
    spacing : (z, y, x), mm
    """
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    steps = [float(step) for step in spacing]
    properties: dict[str, Any] = {"spacing": steps}
    plans, configuration = model.plans, model.configuration
    own = type(preprocessor).run_case_npy is not DefaultPreprocessor.run_case_npy
    if own or any(configuration.use_mask_for_norm):
        data, _, properties = preprocessor.run_case_npy(
            *(image[np.newaxis], None, properties, plans, configuration, model.dataset)
        )
        return np.ascontiguousarray(data), properties
    values = image.astype(np.float32).transpose(plans.transpose_forward)
    box = bounding_box(values)
    assert box is not None
    data = values[box][np.newaxis]
    properties["shape_before_cropping"] = values.shape
    properties["bbox_used_for_cropping"] = [[side.start, side.stop] for side in box]
    properties["shape_after_cropping_and_before_resampling"] = data.shape[1:]
    label = np.broadcast_to(np.int8(0), data.shape)
    intensities = plans.foreground_intensity_properties_per_channel
    data = preprocessor._normalize(data, label, configuration, intensities)
    before, after = model.spacings(steps)
    new_shape = compute_new_shape(data.shape[1:], before, after)
    data = configuration.resampling_fn_data(data, new_shape, before, after)
    return np.ascontiguousarray(data), properties
