"""Whether images and models would still be made from what they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lnqtools.cli._case import holds
from lnqtools.cli._companions import Companions
from lnqtools.cli._making import INPUT, Making, option_of
from lnqtools.cli._names import case_name, files_below, files_by_case, same_name
from lnqtools.cli._plan import Planned
from lnqtools.errors import LnqError, listed

SAME, CHANGED, NOT_FOUND = "same", "changed", "not found"

Files = Mapping[str, Sequence[Path]]
"""Images by case name."""


class Found(NamedTuple):
    """What became of one thing that another was made from: a word, and what it is."""

    word: str
    what: str = ""


class Inputs:
    """Where the inputs of images and models are looked for.

    Parameters
    ----------
    images : iterable of Path
        All images there are: one that has the content of an input is that, by whatever way it was
        named.
    folders : iterable of (str, str)
        A folder of images, and that of their inputs: if it has an image of the name, but none of
        the content, that has changed.
    models : iterable of Path
        Folders of models that may have made predictions.
    """

    def __init__(
        self,
        images: Iterable[Path],
        folders: Iterable[tuple[str, str]],
        models: Iterable[Path],
    ):
        self._images = _by_name(images)
        self._folders = [(Path(made).absolute(), _by_name(files_below(of))) for made, of in folders]
        self._models = list(models)
        self._digests: dict[str, set[tuple[str, str] | None]] = {}

    def of_image(self, path: Path, record: Mapping[str, Any]) -> list[Found]:
        """Return what became of the input, the companions and the model of an image."""
        made_from, options = record.get("made_from", {}), record.get("options", {})
        if not (isinstance(made_from, dict) and isinstance(options, dict)):
            return []  # not what any of the tools wrote
        found = []
        for name, recorded in made_from.items():
            digests = list(map(str, recorded if isinstance(recorded, list) else [recorded]))
            if name == INPUT:
                found += [self._input(path, digest) for digest in digests]
            elif name == "model":
                found += self._model(digests, options)
            else:
                places = Making("", options).places(name)
                pairs = zip(places, digests, strict=False)
                found += [_companion(path, option_of(name), *pair) for pair in pairs]
        return found

    def _input(self, path: Path, digest: str) -> Found:
        name = same_name(case_name(str(path)))
        there = [other for _, of in self._folders for other in of.get(name, [])]
        others = (other for other in (*there, *self._images.get(name, [])) if other != path)
        if any(_has(other, digest) for other in others):
            return Found(SAME)
        for made, of in self._folders:
            if name in of and path.absolute().is_relative_to(made):
                return Found(CHANGED, f"input than {of[name][0]}")
        return Found(NOT_FOUND)

    def _model(self, digests: Sequence[str], options: Mapping[str, Any]) -> list[Found]:
        """Return what became of the models of a prediction; others may have the same place."""
        weights = options.get("model")
        weights = weights if isinstance(weights, list) else [weights]
        asked = options.get("folds"), options.get("checkpoint")
        if str(asked) not in self._digests:
            self._digests[str(asked)] = {_digests_of(model, *asked) for model in self._models}
        there = self._digests[str(asked)]
        pairs = zip(digests, weights, strict=False)
        return [Found(SAME if pair in there else NOT_FOUND) for pair in pairs]


@cache
def of_model(path: Path) -> list[Found]:
    """Return what became of the cases of a model, if the folders of its last training are there.

    Parameters
    ----------
    path : Path
        The model's record; of a damaged one nothing is known.
    """
    from lnqtools.files.json_files import read_json

    try:
        return [_of_model(path, read_json(path))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, LnqError):
        return []


def _of_model(path: Path, record: Mapping[str, Any]) -> Found:
    from lnqtools.nnunet.record import content_mark

    places = list(_places_of(path, record))
    changed, lacking = [], 0
    for name, case in record["made_with"]["cases"].items():
        for k, role in enumerate(("image", "label")):
            files = [f for place in places for f in place[k].get(same_name(name), [])]
            lacking += not files
            if files and not any(content_mark(file) == case[role] for file in files):
                changed.append(name)
    if changed:
        return Found(CHANGED, f"image or label of {listed(sorted({*changed}))}")
    return Found(NOT_FOUND if lacking else SAME)


def _places_of(path: Path, record: Mapping[str, Any]) -> Iterator[tuple[Files, Files]]:
    """Yield the images and labels of the folders that a model's last training names."""
    from lnqtools.cli.train import main as train

    words = [str(word) for word in record["runs"][-1]["command"]]
    with train.make_context(words[0], words[1:], resilient_parsing=True) as context:
        given = context.params
    folders = [(given["images"], given["labels"])]
    folders += [cohort.split(":")[1:3] for cohort in given["cohorts"] or ()]
    for images, labels in folders:
        places = [_place(folder, path) if folder else None for folder in (images, labels)]
        if all(places):
            by_name = [files_by_case(str(place), given["case_pattern"]) for place in places]
            yield by_name[0], by_name[1]


def _companion(path: Path, option: str, place: str, digest: str) -> Found:
    """Return what became of the image that an option named."""
    where = _place(place, path)
    case = Planned(case_name(str(path)), str(path))
    try:
        found = None if where is None else Companions().find(case, str(where), option)
    except LnqError:
        found = None
    if found is None:
        return Found(NOT_FOUND)
    return Found(SAME) if _has(found, digest) else Found(CHANGED, f"{option} {found}")


def _place(place: str, near: Path) -> Path | None:
    """Return what a recorded path leads to now, None if to nothing; see `place_of`."""
    from lnqtools.integrity.claims import place_of

    base = place_of([place], near)
    return None if base is None else base / place


def _has(path: Path, digest: str) -> bool:
    """Tell whether an image has a content; one that cannot be read has not."""
    try:
        return holds(path, digest)
    except LnqError:
        return False


def _digests_of(model: Path, folds: Any, checkpoint: Any) -> tuple[str, str] | None:
    """Return what predictions say of a model; None if it has no such folds."""
    from lnqtools.nnunet.checkpoint import checkpoint_digest
    from lnqtools.nnunet.model_folder import find_checkpoints, metadata_digest

    try:
        paths = find_checkpoints(model, folds, checkpoint)
        return metadata_digest(model), checkpoint_digest(paths)
    except LnqError:
        return None


def _by_name(paths: Iterable[Path]) -> Files:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(same_name(case_name(str(path))), []).append(path)
    return found
