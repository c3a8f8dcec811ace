"""Synthetic chest CTs with lymph nodes, their full truth, and incomplete annotations.

The phantoms stand in for patients where those cannot be had: in demonstrations and tests. They
look like chest CTs to a segmentation network, not to a radiologist.
"""

from lnqtools.phantom.annotation import NodeRow
from lnqtools.phantom.case import Phantom, axial_axes, make_phantom, short_axis_mm
from lnqtools.phantom.patient import PHASES, PROFILES
from lnqtools.phantom.scan import SIZES

__all__ = [
    "PHASES",
    "PROFILES",
    "SIZES",
    "NodeRow",
    "Phantom",
    "axial_axes",
    "make_phantom",
    "short_axis_mm",
]
