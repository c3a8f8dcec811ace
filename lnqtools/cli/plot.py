"""lnq-plot: tables and images of the other tools → a paper's figures."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools.cli._companions import Companions
from lnqtools.cli._contract import (
    ASSUME_ORIENTATION_OPTION,
    CASE_PATTERN_OPTION,
    FORCE_OPTION,
    VOICE_OPTIONS,
)
from lnqtools.cli._models import (
    EMPTY_OPTION,
    INTERSECT_OPTION,
    NAMED_TABLES,
    RANK_BY_OPTION,
    WHERE_OPTION,
    named_tables,
    read_models,
    read_tables,
    undefined_words,
)
from lnqtools.cli._models import warn as warn_of_models
from lnqtools.cli._names import STREAM, is_one_file
from lnqtools.cli._options import (
    BIN_OPTION,
    CLASSES_OPTION,
    ENLARGED_OPTION,
    INSTANCES_OPTION,
    METRIC_OPTION,
    RESAMPLES_OPTION,
    SEED_OPTION,
    VALUES_OPTION,
    WINDOW_OPTION,
)
from lnqtools.cli._output import write_file
from lnqtools.cli._pictures import (
    WIDTH,
    WIDTHS_MM,
    check_picture_place,
    form_of,
)
from lnqtools.cli._plan import Planned
from lnqtools.cli._rules import option
from lnqtools.cli._tool import (
    ToolGroup,
    about,
    command,
    emit,
    help_end,
    say,
    shared_option,
    was_given,
)
from lnqtools.cli._values import PATH, FiniteRange, Pair, Pairs
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from lnqtools.comparison.tables import Scores
    from lnqtools.figures.cases import ShownCase
    from lnqtools.figures.tables import Histogram
    from lnqtools.images.volume import Volume

TOOL = "lnq-plot"


BIN_OF_TABLES_OPTION = BIN_OPTION.but(help="Width of a bin of diameters, for tables without bins.")
FIGURE_OPTIONS = (
    shared_option(
        "-o",
        "--output",
        type=PATH,
        metavar="FILE",
        required=True,
        help="Draw into FILE: .png, .svg or .pdf.",
    ),
    shared_option(
        "--width",
        type=WIDTH,
        help="Width of the figure: a journal's column (85 mm), both (180 mm), or MM.  "
        "[default: single, or double for images]",
    ),
    shared_option(
        "--dpi",
        type=click.IntRange(50, 1200),
        default=300,
        metavar="N",
        help="Pixels per inch, of PNG and of images in SVG and PDF.",
    ),
    FORCE_OPTION,
    *VOICE_OPTIONS,
)


@command(
    TOOL,
    ToolGroup,
    example="lnq-plot scores A=a.tsv B=b.tsv --metric dice -o scores.png",
    no_args_is_help=False,
    subcommand_metavar="FIGURE [ARGS]...",
)
def main() -> None:
    """Draw the figures of a paper from tables and images that the other tools made.

    Each FIGURE has arguments and options of its own: lnq-plot FIGURE --help.
    """


def figure(example: str, width: str = "single", packages: Sequence[str] = ()) -> Callable:
    """Make a function that returns a Figure one of the tool's commands.

    Parameters
    ----------
    example : str
        A call of the command, with which its help ends.
    width : {'single', 'double'}
        Width of the figure, unless the user gives another.
    packages : sequence of str
        Modules that it needs besides matplotlib.
    """

    def decorate(draw: Callable[..., Figure]) -> click.Command:
        @functools.wraps(draw)
        def run(output: str, dpi: int, force: bool, quiet: bool, verbose: bool, **own) -> None:
            check_picture_place(output, "-o", _inputs_among(own.values()), replace=force)

            from lnqtools.figures.style import picture_bytes, require_packages

            require_packages(*packages)
            own["width_mm"] = own.pop("width") or WIDTHS_MM[width]
            with warnings.catch_warnings(record=True) as odd:
                warnings.simplefilter("always", UserWarning)  # as of letters that a font lacks
                warnings.simplefilter("ignore", DeprecationWarning)  # pyparsing's are both
                picture = picture_bytes(draw(**own), form_of(output), dpi)
            for message in dict.fromkeys(str(each.message) for each in odd):
                warn(message)
            write_file(picture, output, replace=force, follow=force)
            emit(output)

        decorated: Callable = run
        for declared in reversed(FIGURE_OPTIONS):
            decorated = declared(decorated)
        return main.command(example.split()[1], epilog=help_end(example))(decorated)

    return decorate


def _inputs_among(values: Iterable[Any]) -> list[str]:
    """Return what may be paths among the values of parameters."""
    texts: list[str] = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, tuple):
            texts += _inputs_among(value)
    return [text for text in texts if text and text != STREAM]


def warn(message: str, path: str | Path | None = None) -> None:
    """Tell what is odd, of a file perhaps, unless -q was given."""
    if not click.get_current_context().params["quiet"]:
        say(TOOL, f"warning: {message}", path)


def read_image(
    path: str | Path, reader: Callable[[str | Path], Volume], assume_orientation: str | None
) -> Volume:
    """Read an image, whose axes must be known; its errors and oddities carry its path."""
    with about(path):
        volume = reader(path).assuming(assume_orientation)
        volume.grid.require_axes()
    for note in volume.notes:
        warn(note, path)
    return volume


# Figures of images


@figure("lnq-plot preprocess --row raw ct/a.nii.gz weak/a.nii.gz -o fig3.pdf", width="double")
@option(
    "--row",
    "rows",
    type=(str, PATH, PATH),
    multiple=True,
    required=True,
    metavar="NAME CT LABEL",
    help="A row of views: what stands beside it (may be empty), a CT, and a label or mask on its "
    "lattice; may be given several times.",
)
@option(
    "--own-places",
    is_flag=True,
    help="Rows are of different patients: each goes through its own largest node.",
)
@INSTANCES_OPTION
@VALUES_OPTION
@WINDOW_OPTION
@ASSUME_ORIENTATION_OPTION
def preprocess(
    rows: tuple[tuple[str, str, str], ...],
    own_places: bool,
    instances: bool,
    values: tuple[int, ...] | None,
    window: tuple[float, float],
    assume_orientation: str | None,
    width_mm: float,
) -> Figure:
    """Draw the preprocessing, in three views.

    As Figure 3 of the paper: views through the largest node that all rows hold, nodes green,
    background blue, unknown voxels as they are.
    """
    from lnqtools.figures import slices
    from lnqtools.images.volume import read_label, read_volume
    from lnqtools.labels.masks import as_mask
    from lnqtools.labels.training import is_training_label

    def read_nodes(path: str | Path) -> Volume:
        """Read a training label, or a mask of nodes if the command line says which."""
        label = read_label(path)
        if is_training_label(label) or not (instances or values is not None):
            return label
        return as_mask(label, values, instances)

    steps = []
    for name, ct, label in rows:
        if is_one_file(ct, label):
            raise click.UsageError(f"--row {name}: {label} is the CT itself, not a label of it")
        image = read_image(ct, read_volume, assume_orientation)
        drawn = read_image(label, read_nodes, assume_orientation)
        step = slices.Step(name, image, drawn, instances and not is_training_label(drawn))
        with about(label):
            slices.on_ct(step)
        steps.append(step)
    places = slices.own_places(steps) if own_places else slices.choose_places(steps)
    if places.note:
        warn(places.note)
    return slices.preprocess(steps, places=places, window_hu=window, width_mm=width_mm)


@figure(
    "lnq-plot cases a.tsv --ct ct --prediction a --reference truth -o fig4.png",
    width="double",
    packages=["skimage"],
)
@click.argument("table", metavar="FILE", type=PATH)
@option("--ct", type=PATH, required=True, metavar="DIR", help="The CTs, by case name.")
@option(
    "--prediction",
    type=PATH,
    required=True,
    metavar="DIR",
    help="The predicted masks, on the CTs' grids.",
)
@option(
    "--reference",
    type=PATH,
    required=True,
    metavar="DIR",
    help="The true masks, on the CTs' grids.",
)
@option(
    "--anatomy",
    type=PATH,
    metavar="DIR",
    help="TotalSegmentator maps on the CTs' grids, for the trachea; without it none is drawn.",
)
@CASE_PATTERN_OPTION
@CLASSES_OPTION.but(only_with="--anatomy")
@INSTANCES_OPTION
@VALUES_OPTION
@WINDOW_OPTION
@ASSUME_ORIENTATION_OPTION
def cases(
    table: str,
    ct: str,
    prediction: str,
    reference: str,
    anatomy: str | None,
    case_pattern: re.Pattern[str] | None,
    classes: str,
    instances: bool,
    values: tuple[int, ...] | None,
    window: tuple[float, float],
    assume_orientation: str | None,
    width_mm: float,
) -> Figure:
    """Draw the worst, average and best case.

    As Figure 4 of the paper: three views and surfaces of the cases with the lowest and highest
    Dice, and of one between. FILE is the table of lnq-metrics ('-': standard input). The average
    case is the one whose Dice is nearest to the mean.
    """
    from lnqtools.comparison.tables import read_model
    from lnqtools.figures import cases as drawing
    from lnqtools.figures.tables import chosen_cases

    def content(rows: list[dict]) -> tuple[dict[str, dict[str, float]], dict[str, list[str]]]:
        metrics = ["dice", *(["assd_mm"] if "assd_mm" in rows[0] else [])]
        scores = read_model(rows, metrics).values
        return scores, chosen_cases({case: of["dice"] for case, of in scores.items()})

    scores, roles = read_tables(TOOL, {table: table}, content)[table]
    if undefined := sum(of["dice"] != of["dice"] for of in scores.values()):
        verb = "is" if undefined == 1 else "are"
        warn(f"dice: {undefined} of {len(scores)} cases {verb} undefined and left out")
    places = {"--ct": ct, "--prediction": prediction, "--reference": reference}
    if anatomy is not None:
        places["--anatomy"] = anatomy
    shown = [
        read_case(
            *(case, heading_of(case, of, scores[case]), places, classes, values, instances),
            case_pattern=case_pattern,
            assume_orientation=assume_orientation,
        )
        for case, of in roles.items()
    ]
    return drawing.cases(shown, window_hu=window, width_mm=width_mm)


def heading_of(case: str, roles: Sequence[str], values: dict[str, float]) -> str:
    """Return what stands above a case: what it is, its name, Dice and ASSD."""
    from lnqtools.figures.charts import shown_name
    from lnqtools.metrics.columns import column_of

    dice, assd = column_of("dice"), column_of("assd_mm")
    text = f"{dice.title} {dice.rounded(values['dice'])}"
    distance = values.get(assd.name, float("nan"))
    if distance == distance:
        text += f", {assd.title} {assd.rounded(distance)} {assd.unit}"
    return f"{' and '.join(roles)}: {shown_name(case)}\n{text}"


def read_case(
    case: str,
    heading: str,
    places: dict[str, str],
    classes: str,
    values: tuple[int, ...] | None,
    instances: bool,
    *,
    case_pattern: re.Pattern[str] | None = None,
    assume_orientation: str | None = None,
) -> ShownCase:
    """Read the images of a case.

    Raises
    ------
    LnqError
        If one is missing, cannot be read, or does not lie on the CT's grid.
    """
    from lnqtools.anatomy import maps
    from lnqtools.anatomy.structures import read_anatomy
    from lnqtools.figures.cases import ShownCase
    from lnqtools.images.grid import difference
    from lnqtools.images.volume import read_volume
    from lnqtools.labels.masks import read_mask, with_numbers

    reader = partial(read_mask, values=values, instances=instances)
    readers: dict[str, Callable[[str | Path], Volume]] = {
        "--ct": read_volume,
        "--anatomy": partial(read_anatomy, classes=classes),
        "--prediction": partial(reader, binary=True),
        "--reference": reader,
    }
    companions = Companions(pattern=case_pattern)
    volumes: dict[str, Volume] = {}
    with about(case):
        own = Planned(case, case)
        for option, place in places.items():
            path = companions.other_than_input(own, place, option)
            if option == "--prediction":
                own = Planned(case, str(path))  # neither reference nor anatomy
            volumes[option] = read_image(path, readers[option], assume_orientation)
            if how := difference(volumes["--ct"].grid, volumes[option].grid):
                raise LnqError(f"{option} {path} does not lie on the grid of the CT: {how}")
            if option == "--anatomy":
                with about(path):
                    names = maps.structure_names(volumes[option], classes)
                    chosen = maps.chosen_labels(names, "trachea")
    trachea: NDArray | None = None
    if "--anatomy" in volumes:
        trachea = maps.labels_mask(volumes["--anatomy"].array, chosen)
    predicted, true = (volumes[option].array for option in ("--prediction", "--reference"))
    if instances:
        predicted = with_numbers(predicted, volumes["--ct"].grid, connectivity=6)
    return ShownCase(heading, volumes["--ct"], predicted, true, trachea, instances)


# Figures of tables


@figure("lnq-plot diameters diameters.tsv -o fig2.pdf")
@click.argument("tables", nargs=-1, metavar="[NAME=]FILE...", type=Pair("[NAME=]FILE"))
@METRIC_OPTION
@BIN_OF_TABLES_OPTION
@ENLARGED_OPTION.but(help="Least diameter of an enlarged node: where the line is.")
def diameters(
    tables: Pairs, metric: str, bin_mm: float, enlarged_mm: float, width_mm: float
) -> Figure:
    """Draw histograms of shortest diameters.

    As Figure 2 of the paper: components, one panel per data set. FILE is a table of
    lnq-filter-diameter --list, a data set called NAME, or one of lnq-stats --table diameters,
    which names its sets itself ('-': standard input).
    """
    from lnqtools.figures import charts
    from lnqtools.figures.tables import histogram_of_components, histograms_of_bins

    def content(rows: list[dict]) -> dict[str, Histogram] | Histogram:
        if "set" in rows[0]:
            return histograms_of_bins(rows)
        return histogram_of_components(rows, metric, bin_mm)

    if not tables:
        raise click.UsageError("no input: name tables as FILE or NAME=FILE")
    if len(set(tables)) < len(tables) or [path for _, path in tables].count(STREAM) > 1:
        raise click.UsageError("a table is named twice")
    found = read_tables(TOOL, {table: table[1] for table in tables}, content)
    if all(isinstance(of, dict) for of in found.values()):
        _refuse_given("metric", "bin_mm", "lnq-filter-diameter --list")
    histograms: dict[str, Histogram] = {}
    for (name, path), of in found.items():
        if isinstance(of, dict) and name:
            raise click.UsageError(f"{path} names its data sets itself: leave out {name}=")
        sets = of if isinstance(of, dict) else {name or _set_name(path): of}
        if twice := histograms.keys() & sets.keys():
            raise click.UsageError(f"two data sets are named {min(twice)}")
        histograms |= sets
    return charts.diameters(histograms, enlarged_mm=enlarged_mm, width_mm=width_mm)


def _set_name(path: str) -> str:
    return "standard input" if path == STREAM else Path(path).stem


def _refuse_given(*names_and_maker: str) -> None:
    """Refuse options that are for tables of another command, the last argument."""
    *names, maker = names_and_maker
    for name in names:
        if was_given(name):
            raise click.UsageError(f"--{name.replace('_', '-')} is for tables of {maker}")


@figure("lnq-plot overlap A=a.tsv B=b.tsv -o fig5.pdf")
@NAMED_TABLES
@METRIC_OPTION
@BIN_OF_TABLES_OPTION
def overlap(tables: Pairs, metric: str, bin_mm: float, width_mm: float) -> Figure:
    """Draw overlaps by shortest diameter.

    As Figure 5 of the paper: components of references and of predictions, several models. NAME is
    what a model is called, FILE its table of lnq-metrics --by-diameter or --lesions ('-': standard
    input).
    """
    from lnqtools.figures import charts
    from lnqtools.figures.tables import OverlapsByDiameter, is_of_lesions, overlaps_by_side

    of_lesions = []

    def content(rows: list[dict]) -> dict[str, OverlapsByDiameter]:
        of_lesions.append(is_of_lesions(rows))
        return overlaps_by_side(rows, metric, bin_mm)

    models = read_tables(TOOL, named_tables(tables), content)
    if not any(of_lesions):
        _refuse_given("metric", "bin_mm", "lnq-metrics --lesions")
    drawn = charts.overlap(models, width_mm=width_mm)
    true = [sides["reference"] for sides in models.values()]
    if len({int(side.n.sum()) + side.degenerate for side in true}) > 1:
        warn("the number of reference components differs between tables, as if of different cases")
    return drawn


METRICS_OPTION = option(
    "--metric",
    "metrics",
    multiple=True,
    default=("dice",),
    metavar="COLUMN",
    help="Column to show, a panel each; may be given several times.",
)


@figure("lnq-plot scores A=a.tsv B=b.tsv --metric dice -o scores.png")
@NAMED_TABLES
@METRICS_OPTION
@EMPTY_OPTION
@option("--log", is_flag=True, help="Logarithmic scale for distances and volumes.")
@WHERE_OPTION
@INTERSECT_OPTION
def scores(
    tables: Pairs,
    metrics: tuple[str, ...],
    empty: str | float,
    log: bool,
    where: Pairs,
    intersect: bool,
    width_mm: float,
) -> Figure:
    """Draw scores as boxes and points.

    NAME is what a model is called, FILE its table of lnq-metrics ('-': standard input). The
    same cases are shown for all models.
    """
    from lnqtools.figures import charts
    from lnqtools.metrics.columns import column_of

    chosen = list(dict.fromkeys(metrics))
    if log and all(column_of(metric).is_fraction for metric in chosen):
        raise click.UsageError(f"--log is for distances and volumes, not for {', '.join(chosen)}")
    shown = _aligned(tables, chosen, where, intersect, empty)
    return charts.scores(shown, log=log, width_mm=width_mm)


@figure("lnq-plot rank A=a.tsv B=b.tsv C=c.tsv --metric dice -o ranks.pdf")
@NAMED_TABLES
@METRICS_OPTION.but(help="Column to rank by, a panel each; may be given several times.")
@RANK_BY_OPTION
@EMPTY_OPTION
@RESAMPLES_OPTION
@SEED_OPTION
@WHERE_OPTION
@INTERSECT_OPTION
def rank(
    tables: Pairs,
    metrics: tuple[str, ...],
    rank_by: str,
    empty: str | float,
    resamples: int,
    seed: int,
    where: Pairs,
    intersect: bool,
    width_mm: float,
) -> Figure:
    """Draw ranks and how sure they are.

    A blob is how often a model has a rank when cases are drawn anew. NAME is what a model is
    called, FILE its table of lnq-metrics ('-': standard input); ranks are those of lnq-compare
    --table ranking.
    """
    from lnqtools.comparison.ranking import case_ranks, rank_rows
    from lnqtools.figures import ranks

    if len(tables) == 1:
        raise click.UsageError("to rank models, name two or more tables")
    shown = _aligned(tables, list(dict.fromkeys(metrics)), where, intersect, empty)
    if rank_by == "cases":
        shown = [case_ranks(shown)]
    drawn = {"by": rank_by, "resamples": resamples, "seed": seed}
    ranked = [rank_rows(of, **drawn) for of in shown]  # type: ignore[arg-type]
    return ranks.rank(ranked, shown[0].models, width_mm=width_mm)


MIN_DIAMETER_OPTION = option(
    "--min-diameter",
    "min_diameter_mm",
    type=FiniteRange(0),
    metavar="MM",
    help="Take the rows of this diameter filter.  [default: the least of the table]",
)


@figure("lnq-plot pr A=points.tsv -o pr.pdf")
@NAMED_TABLES
@option("--lesions", is_flag=True, help="Of lesions of all cases, not of voxels.")
@MIN_DIAMETER_OPTION
def pr(tables: Pairs, lesions: bool, min_diameter_mm: float | None, width_mm: float) -> Figure:
    """Draw precision over recall, by threshold.

    Means of the cases. NAME is what a model is called, FILE its table of lnq-threshold ('-':
    standard input). A ring marks the best threshold.
    """
    return _curves(tables, "pr-lesions" if lesions else "pr", min_diameter_mm, width_mm)


@figure("lnq-plot froc A=points.tsv -o froc.pdf")
@NAMED_TABLES
@MIN_DIAMETER_OPTION
def froc(tables: Pairs, min_diameter_mm: float | None, width_mm: float) -> Figure:
    """Draw sensitivity over false lesions per case.

    Of the lesions of all cases, by threshold (FROC). NAME is what a model is called, FILE its
    table of lnq-threshold ('-': standard input). A ring marks the best threshold.
    """
    return _curves(tables, "froc", min_diameter_mm, width_mm)


def _curves(tables: Pairs, kind: str, min_diameter_mm: float | None, width_mm: float) -> Figure:
    from lnqtools.figures import curves

    take = partial(curves.curve_of, kind=kind, min_diameter_mm=min_diameter_mm)
    models = read_tables(TOOL, named_tables(tables), take)
    return curves.curves(models, kind, width_mm=width_mm)


@figure("lnq-plot calibration A=cases.tsv -o calibration.pdf")
@NAMED_TABLES
def calibration(tables: Pairs, width_mm: float) -> Figure:
    """Draw how often voxels are nodes, by probability.

    A reliability diagram. NAME is what a model is called, FILE its table of lnq-threshold --cases
    ('-': standard input).
    """
    from lnqtools.figures import curves

    models = read_tables(TOOL, named_tables(tables), curves.calibration_of)
    return curves.calibration(models, width_mm=width_mm)


def _aligned(
    tables: Sequence[tuple[str, str]],
    columns: Sequence[str],
    where: Sequence[tuple[str, str]],
    intersect: bool,
    empty: str | float = "drop",
) -> list[Scores]:
    """Read columns of several models on the same cases, and tell what is odd about them."""
    from lnqtools.comparison.tables import align, fill
    from lnqtools.metrics.columns import column_of

    models = read_models(TOOL, named_tables(tables), columns, where)
    missing = "drop" if intersect else "error"
    quiet = click.get_current_context().params["quiet"]
    if not quiet:
        warn_of_models(TOOL, models, missing)
    way_on = "--intersect compares what all have"
    aligned = [
        fill(
            align(models, column, better=column_of(column).better, missing=missing, way_on=way_on),
            empty,
        )
        for column in columns
    ]
    for of_column in aligned:
        if words := undefined_words(of_column):
            warn(words)
    return aligned


@figure("lnq-plot agreement A=a.tsv -o volumes.svg")
@NAMED_TABLES
@WHERE_OPTION
@INTERSECT_OPTION
def agreement(tables: Pairs, where: Pairs, intersect: bool, width_mm: float) -> Figure:
    """Draw Bland-Altman plots of volumes.

    One point per case, one panel per model, with the mean difference and the limits of agreement.
    NAME is what a model is called, FILE its table of lnq-metrics ('-': standard input).
    """
    from lnqtools.figures import charts

    columns = ["volume_prediction_ml", "volume_reference_ml"]
    predicted, true = _aligned(tables, columns, where, intersect)
    models = {}
    for k, model in enumerate(predicted.models):
        pair = predicted.values[k], true.values[k]
        defined = ~(pair[0] != pair[0]) & ~(pair[1] != pair[1])
        models[model] = (pair[0][defined], pair[1][defined])
    return charts.agreement(models, width_mm=width_mm)


@figure("lnq-plot training model/fold_0/training.tsv -o training.png")
@click.argument("table", metavar="FILE", type=PATH)
def training(table: str, width_mm: float) -> Figure:
    """Draw the curves of a training.

    Its losses and its pseudo-Dice over the epochs. FILE is the training.tsv that lnq-train writes
    into each fold ('-': standard input).
    """
    from lnqtools.figures import charts
    from lnqtools.figures.tables import training_history

    history = read_tables(TOOL, {table: table}, training_history)[table]
    return charts.training(history, width_mm=width_mm)
