"""What tables of components say beside sizes: their HU, and where in the chest they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

from lnqtools.cli._case import Case
from lnqtools.cli._options import CLASSES_OPTION, REPLACE_NAN_OPTION, TRUST_HU_OPTION
from lnqtools.cli._rules import Conditions, option
from lnqtools.cli._totalseg import about_map
from lnqtools.cli._values import PATH

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.anatomy.landmarks import Midline
    from lnqtools.components.labeling import Components
    from lnqtools.images.grid import Grid


def with_node_options(only_with: Conditions) -> Callable:
    """Give a command the options of `NodeColumns`, which are about a table of it."""
    options = (
        option(
            "--ct",
            type=PATH,
            metavar="FILE|DIR",
            only_with=only_with,
            help="Add mean and SD of the HU of each component, from this CT.",
        ),
        TRUST_HU_OPTION.but(only_with="--ct"),
        REPLACE_NAN_OPTION.but(only_with="--ct"),
        option(
            "--lungs",
            type=PATH,
            metavar="FILE|DIR",
            only_with=only_with,
            help="Add on which side of the midline each component lies, from a lung mask or a "
            "TotalSegmentator map.",
        ),
        option(
            "--anatomy",
            type=PATH,
            metavar="FILE|DIR",
            only_with=only_with,
            not_with="--lungs",
            help="Add that, and the distance to the carina, from a TotalSegmentator map.",
        ),
        CLASSES_OPTION.but(only_with=("--lungs", "--anatomy")),
    )
    return lambda function: reduce(lambda made, of: of(made), reversed(options), function)


NODE_PARAMETERS = ("ct", "trust_hu", "replace_nan", "lungs", "anatomy", "classes")
"""Their names."""


@dataclass(frozen=True)
class NodeColumns:
    """Columns that images beside the masks add to a table of components.

    Parameters
    ----------
    ct, lungs, anatomy : str or None
        Where these images are.
    trust_hu, replace_nan
        How CTs are read, see `lnqtools.images.hounsfield.read_ct`.
    classes : str
        Whose class numbers a map holds.
    """

    ct: str | None
    trust_hu: bool
    replace_nan: float | None
    lungs: str | None
    anatomy: str | None
    classes: str

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, which a table without components has too."""
        if self.ct is self.lungs is self.anatomy is None:
            return ()  # and load nothing
        from lnqtools.anatomy.landmarks import CARINA_COLUMNS, SIDE_COLUMNS
        from lnqtools.components.intensity import HU_COLUMNS

        return (
            *(HU_COLUMNS if self.ct is not None else ()),
            *(SIDE_COLUMNS if self.lungs is not None or self.anatomy is not None else ()),
            *(CARINA_COLUMNS if self.anatomy is not None else ()),
        )

    def of(self, case: Case, *found: Components) -> list[list[dict[str, Any]]]:
        """Return the cells of each component of several masks of a case, on one grid."""
        if not self.names:
            return [[{} for _ in range(components.count)] for components in found]
        from lnqtools.anatomy.landmarks import carina_columns, side_columns
        from lnqtools.components.intensity import hu_columns

        grid = found[0].grid
        hu = self._hu(case, grid)
        landmarks = self._landmarks(case, grid)

        def cells(components: Components) -> list[dict[str, Any]]:
            parts = [] if hu is None else [hu_columns(components, hu)]
            if landmarks is not None:
                points = grid.world(components.centroids)
                parts.append(side_columns(points, landmarks.midline))
                if self.anatomy is not None:
                    parts.append(carina_columns(points, landmarks.carina))
            rows = zip(*parts, strict=True)
            return [{k: v for part in row for k, v in part.items()} for row in rows]

        return [cells(components) for components in found]

    def _hu(self, case: Case, grid: Grid) -> np.ndarray | None:
        """Return the HU of a case's CT on a grid."""
        if self.ct is None:
            return None
        from lnqtools.images.hounsfield import read_ct

        reader = partial(read_ct, replace_nan=self.replace_nan, trust_hu=self.trust_hu)
        return case.read_covering(self.ct, "--ct", reader, grid)[1]

    def _landmarks(self, case: Case, grid: Grid) -> Landmarks | None:
        """Return what is known of a case's landmarks, with a warning of what is not."""
        from lnqtools.anatomy.landmarks import NoCarinaError, find_carina, find_midline
        from lnqtools.anatomy.lungs import NoLungsError
        from lnqtools.anatomy.maps import chosen_labels, labels_mask, lung_mask, structure_names
        from lnqtools.anatomy.region import OneLungError
        from lnqtools.anatomy.structures import LANDMARKS, LUNGS, read_anatomy

        if self.anatomy is not None:
            place, said, part = self.anatomy, "--anatomy", LANDMARKS
        elif self.lungs is not None:
            place, said, part = self.lungs, "--lungs", LUNGS
        else:
            return None
        reader = partial(read_anatomy, part=part, classes=self.classes)
        whole, _ = case.read_covering(place, said, reader, grid)
        found = Landmarks()
        with about_map(f"{said} {place}"):
            names = structure_names(whole, self.classes) if self.anatomy is not None else {}
            try:
                lungs = lung_mask(whole, self.classes)
                found = Landmarks(find_midline(lungs, whole.grid))
            except (NoLungsError, OneLungError):
                case.warn(f"{said} {place}: does not show two lungs: no midline")
            if self.anatomy is not None:
                trachea = labels_mask(whole.array, chosen_labels(names, "trachea"))
                try:
                    found = found._replace(carina=find_carina(trachea, whole.grid))
                except NoCarinaError as error:
                    case.warn(f"{said} {place}: {error}")
        return found


class Landmarks(NamedTuple):
    """The midline of a case, and its carina; None is not known."""

    midline: Midline | None = None
    carina: np.ndarray | None = None
