"""Lymph nodes in chest CTs of which only some are drawn: train on them, judge what was learned.

The tools (``lnq-crop``, ``lnq-train``, ``lnq-metrics``, …) are for the shell and have man pages.
These names are the same steps for scripts:

=================== ============================================================================
`Grid`              where voxels lie in the world
`Volume`            an array (z, y, x) on a grid; `read_volume`, `read_label`, `write_volume`
`find_lungs`        the box of the lungs in a CT
`weak_label`        incomplete annotation → label: 0 background, 1 node, 2 unknown
`fill_unknown`      fewer unknowns, by what teachers agree on
`train`             a model of such labels; `Predictor` runs one
`find_components`   the connected components of a mask; `diameters_mm` measures them
`evaluate`          all metrics of a prediction and its reference
`find_lesions`      which components of the two belong to each other
`make_phantom`      a synthetic CT with nodes, all of them known
`LnqError`          what all of these raise: what is wrong, in one sentence
=================== ============================================================================

Arrays and spacings are (z, y, x), in mm; world coordinates are NIfTI's. A name is imported when it
is first used, so that ``import lnqtools`` takes no time; `train` and `Predictor` load torch when
they are called. Classes of arguments stand beside the functions that take them, as
`lnqtools.labels.weak.Coat` and `lnqtools.labels.fill.Verdict`.

Examples
--------
The nodes of a synthetic patient, and how well their incomplete annotation agrees with them:

>>> from lnqtools import diameters_mm, evaluate, find_components, make_phantom
>>> case = make_phantom(seed=0, index=0, profile="easy")
>>> nodes = find_components(case.truth, case.grid)
>>> diameters_mm(nodes, "recist").round(1).tolist()
[18.3, 16.9, 12.3, 21.8, 14.4, 19.5, 18.6]
>>> round(evaluate(case.weak, case.truth, case.spacing)["recall"], 3)
0.614
"""

TYPE_CHECKING = False  # as typing's, which takes longer to import than this package
if TYPE_CHECKING:
    from lnqtools.anatomy.lungs import find_lungs as find_lungs
    from lnqtools.components.diameters import diameters_mm as diameters_mm
    from lnqtools.components.labeling import find_components as find_components
    from lnqtools.components.matching import find_lesions as find_lesions
    from lnqtools.errors import LnqError as LnqError
    from lnqtools.images.grid import Grid as Grid
    from lnqtools.images.volume import Volume as Volume
    from lnqtools.images.volume import read_label as read_label
    from lnqtools.images.volume import read_volume as read_volume
    from lnqtools.images.volume import write_volume as write_volume
    from lnqtools.labels.fill import fill_unknown as fill_unknown
    from lnqtools.labels.weak import weak_label as weak_label
    from lnqtools.metrics.masks import evaluate as evaluate
    from lnqtools.nnunet.predict import Predictor as Predictor
    from lnqtools.nnunet.train import train as train
    from lnqtools.phantom.case import make_phantom as make_phantom

__version__ = "0.1.0"

_MODULES = {
    "Grid": "lnqtools.images.grid",
    "LnqError": "lnqtools.errors",
    "Predictor": "lnqtools.nnunet.predict",
    "Volume": "lnqtools.images.volume",
    "diameters_mm": "lnqtools.components.diameters",
    "evaluate": "lnqtools.metrics.masks",
    "fill_unknown": "lnqtools.labels.fill",
    "find_components": "lnqtools.components.labeling",
    "find_lesions": "lnqtools.components.matching",
    "find_lungs": "lnqtools.anatomy.lungs",
    "make_phantom": "lnqtools.phantom.case",
    "read_label": "lnqtools.images.volume",
    "read_volume": "lnqtools.images.volume",
    "train": "lnqtools.nnunet.train",
    "weak_label": "lnqtools.labels.weak",
    "write_volume": "lnqtools.images.volume",
}
"""Each public name, and the module that defines it."""

__all__ = list(_MODULES)


if not TYPE_CHECKING:  # to type checkers a name that is not there would be one of any type

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = value = getattr(import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    """List the public names, too, that are not used yet."""
    return sorted({*globals(), *_MODULES})
