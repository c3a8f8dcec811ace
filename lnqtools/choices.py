"""The words that options choose between, for the command line and for those who act on them.

Each has the name of its option. Nothing is imported here, so that ``--help`` waits for no library.
"""

# Tables

FORMATS = ("tsv", "csv", "jsonl")
PAPER_FORMATS = ("markdown", "latex")
ALL_FORMATS = (*FORMATS, *PAPER_FORMATS)

# Masks and their components

CONNECTIVITIES = (6, 18, 26)
METRICS = (
    "ellipsoid",
    "ellipsoid-corrected",
    "recist",
    "recist-caliper",
    "inscribed",
    "feret-min",
    "sphere",
)
DEGENERATE = ("drop", "keep", "recist")

# Images and anatomy

INTERPOLATIONS = ("nearest", "linear", "bspline", "label-gaussian")
RESAMPLINGS = ("nearest",)
ORIENTATIONS = ("auto", "stored")
PICTURES = ("png", "svg", "pdf")
CLASSES = ("auto", "v1", "v2")
TASKS = ("total", "lung_vessels", "trunk_cavities")

# DICOM

SERIES_NAMES = ("patient", "series")
DRAWING_NAMES = (*SERIES_NAMES, "file")
DRAWINGS = ("seg", "rtstruct", "sr", "seg.nrrd")
HOW_DRAWN = ("automatic", "semiautomatic", "manual")

# Labels

STRATEGIES = ("full", "noisy", "mask", "coat")
UNCOVERED = ("unknown", "background")
STATISTICS = ("data-sets", "voxels", "diameters", "cases")

# Agreement, and models side by side

EDGES = ("surface", "open")
PRESETS = ("lnq2023", "medpy", "monai")
EMPTY = ("drop", "worst")
EMPTY_IN_IMAGES = (*EMPTY, "diagonal")
SCORES = ("dice", "dice-pooled", "lesion-f1")
COMPARISONS = ("summary", "pairs", "pvalues", "effects", "ranking", "significance", "power")
MISSING = ("error", "drop", "worst")
SPREADS = ("sample", "population")
TIES = ("min", "average")
METHODS = ("approx", "exact")
ZEROS = ("wilcox", "pratt")
ADJUSTMENTS = ("none", "holm", "bonferroni", "bh")
RANKINGS = ("mean", "median", "ranks", "cases")

# Networks

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

# Phantoms

PROFILES = ("realistic", "easy", "ct-lymph-nodes", "lnq2023", "nsclc")
PHASES = ("none", "weak", "high")
SIZES = ("small", "full")

# Shells

SHELLS = ("bash", "zsh", "fish")
