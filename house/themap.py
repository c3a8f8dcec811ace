"""The map of CONTRIBUTING.md, made of the tree and of these words.

A module without words here is described by the first line of its docstring.
"""

from __future__ import annotations

import ast
from pathlib import Path

WORDS = {
    "errors": "`LnqError`: a sentence for the person at the shell",
    "choices": "the words that options choose between",
    "memory": "whether what a step needs fits into memory, asked before the work",
    "files": "files of any kind",
    "files/atomic": "files and folders that appear whole or not at all",
    "files/streams": "files and pipes as bytes, gzipped or not, their troubles as errors",
    "files/foreign": "what a file is that is not what its name promises",
    "files/locks": "locks between processes",
    "files/json_files": "JSON",
    "files/tables": "rows as TSV, CSV, JSON lines, written and read",
    "files/typeset": "tables as Markdown and LaTeX",
    "images": "images, where their voxels lie, and their files",
    "images/box": "boxes of voxels",
    "images/grid": "`Grid`: where voxels lie in the world; crop, paste",
    "images/orientation": "the order in which axes are stored, and turning to another",
    "images/volume": "`Volume`: an array on a grid; reads and writes image files, whatever their format",
    "images/nifti": "NIfTI",
    "images/itk": "NRRD or MetaImage, as a file's first line says",
    "images/headers": "what the headers of those two share",
    "images/nrrd": "NRRD",
    "images/metaimage": "MetaImage",
    "images/names": "names of labels, in headers or beside",
    "images/hounsfield": "whether voxels are HU",
    "images/content": "whether a file has the content that something was made from",
    "images/resampling": "images on grids of other voxels, interpolated",
    "images/views": "slices as people look at them, however the image is stored",
    "components": "connected components of masks",
    "components/labelling": "found, in one pass",
    "components/diameters": "measured",
    "components/sizes": "large enough or not; strata, bins",
    "components/matching": "lesions of two masks: overlaps, partners",
    "components/rows": "as rows of a table",
    "anatomy": "what a CT holds besides nodes",
    "anatomy/maps": "TotalSegmentator's classes by name and version; presets of them; the table of names beside a map",
    "anatomy/lungs": "the lungs' box, from HU or from a mask",
    "anatomy/region": "what lies outside the chest's nodes",
    "labels": "labels 0 background, 1 node, 2 unknown",
    "labels/training": "what they are, and their checks",
    "labels/weak": "made from annotations",
    "labels/masks": "masks of nodes as files hold them",
    "labels/fill": "unknown voxels filled: from structures, from teachers",
    "labels/lost": "drawn nodes that a grid leaves out",
    "labels/cohorts": "data sets of them: nodes, labeled voxels, diameters",
    "metrics": "agreement of prediction and reference",
    "metrics/columns": "what is known of each column",
    "metrics/masks": "voxels and surfaces",
    "metrics/lesions": "lesion by lesion: tables, detection",
    "metrics/summaries": "over cases",
    "metrics/sweep": "by probability threshold and diameter filter",
    "comparison": "models on the same cases",
    "comparison/tables": "brought together case by case",
    "comparison/summaries": "means with bootstrap intervals",
    "comparison/paired": "paired tests",
    "comparison/ranking": "ranks",
    "comparison/text": "the same as text for a paper",
    "figures": "figures as journals print them",
    "figures/style": "the look and the files of all pictures",
    "figures/tables": "what charts take from tables",
    "figures/charts": "charts",
    "figures/sweep": "the curves of `lnq-threshold`",
    "figures/slices": "CTs in slices, with labels",
    "figures/surface": "masks as surfaces",
    "figures/cases": "single cases",
    "report": "the HTML page, with `report.js` and `report.css`",
    "report/contents": "what it says of a case",
    "report/slices": "what it shows of one",
    "report/runs": "masks as short text",
    "report/page": "the page itself",
    "report/summary": "all cases together",
    "report/origin": "where it comes from",
    "report/chart": "a small drawing",
    "report/markup": "pieces of HTML",
    "report/folder": "where it lies",
    "phantom": "the synthetic thorax",
    "phantom/case": "a case",
    "phantom/patient": "what differs from patient to patient",
    "phantom/thorax": "the body between skin and lungs",
    "phantom/anatomy": "organs, vessels, airways, bones",
    "phantom/nodes": "lymph nodes and their mimics",
    "phantom/labels": "numbers of classes",
    "phantom/shapes": "solids",
    "phantom/canvas": "a slab being painted",
    "phantom/scan": "voxels, noise, blur",
    "nnunet": "everything that touches nnU-Net or torch",
    "nnunet/dataset": "training cases",
    "nnunet/recipes": "how a model is trained",
    "nnunet/folds": "which cases validate which fold",
    "nnunet/prepare": "plans, preprocessed cases",
    "nnunet/train": "a training",
    "nnunet/trainer": "nnU-Net's trainer with our numbers",
    "nnunet/sampling": "which cases patches come from",
    "nnunet/cohorts": "the table of cohorts",
    "nnunet/curve": "the training's curve",
    "nnunet/record": "what a model was made with",
    "nnunet/validate": "a fold's validation cases",
    "nnunet/model_folder": "which files make up a model",
    "nnunet/checkpoint": "weights, read without running code",
    "nnunet/trust": "what a model may name",
    "nnunet/node_label": "which label is the node",
    "nnunet/predict": "a model on an array",
    "nnunet/model_keys": "which keys of a model's files count, and which are refused",
    "nnunet/view": "in which orientation a network sees images",
    "nnunet/loading": "a model's network, built and filled",
    "nnunet/window": "its sliding window",
    "nnunet/threads": "how many threads are fastest",
    "nnunet/environment": "devices, variables, chatter",
    "totalseg": "TotalSegmentator",
    "totalseg/weights": "which models a task needs, whether they are whole, and their download",
    "totalseg/segmenter": "the process that a batch keeps, and its private home",
    "totalseg/worker": "what runs in that process, without network",
    "cli": "one thin module a tool, and what they share",
    "cli/_tool": "a tool's voice, exit statuses and end by signal",
    "cli/_contract": "the options of the batch contract",
    "cli/_plan": "cases and their names",
    "cli/_names": "what cases are called, and which files are theirs",
    "cli/_tables": "tables that a tool writes",
    "cli/_lost": "nodes that are lost, told",
    "cli/_companions": "the images that belong to a case",
    "cli/_batch": "what becomes of each case",
    "cli/_parallel": "the children of `-j`",
    "cli/_values": "types of values",
    "cli/_options": "each shared option once",
    "cli/_models": "tables of models as NAME=FILE",
    "cli/_lungs": "the lungs' box as options say",
    "cli/_nnunet": "options of tools that run a network",
    "cli/_totalseg": "what the tools that run TotalSegmentator share",
    "cli/_pictures": "where pictures go",
    "cli/_forecast": "how long work will take",
}


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring as half a sentence."""
    line = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:] if line[1:2].islower() else line


def make_map(root: Path, order: list[str]) -> str:
    """Return the table, rooms in their order, modules as the words above are ordered."""
    lines = ["| room | what is done there |", "|---|---|"]
    rank = list(WORDS)
    for room in order:
        folder = root / "lnqtools" / room
        if not folder.is_dir():
            lines.append(f"| `lnqtools/{room}.py` | {WORDS.get(room) or first_line(folder.with_suffix('.py'))} |")
            continue
        modules = [p for p in sorted(folder.glob("*.py")) if p.stem != "__init__"]
        if room == "cli":
            modules = [p for p in modules if p.stem.startswith("_")]
        keys = {p: f"{room}/{p.stem}" for p in modules}
        modules.sort(key=lambda p: rank.index(keys[p]) if keys[p] in rank else len(rank))
        said = "; ".join(f"`{p.name}` {WORDS.get(keys[p]) or first_line(p)}" for p in modules)
        head = WORDS.get(room) or first_line(folder / "__init__.py")
        lines.append(f"| `lnqtools/{room}/` | {head}: {said} |")
    return "\n".join(lines) + "\n"
