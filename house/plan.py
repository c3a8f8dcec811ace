"""Where everything goes. ``move.py`` does it; whatever is not named here is listed as an error."""

from __future__ import annotations

import ast
import re

from split import Split

# Step A: whole files. A module that is split in step B goes first to where most of it stays.

MODULES = {
    "lnqtools.atomic": "lnqtools.files.atomic",
    "lnqtools.streams": "lnqtools.files.streams",
    "lnqtools.content": "lnqtools.images.content",
    "lnqtools.foreign": "lnqtools.files.foreign",
    "lnqtools.tables": "lnqtools.files.tables",
    "lnqtools.typeset": "lnqtools.files.typeset",
    "lnqtools.grid": "lnqtools.images.grid",
    "lnqtools.hounsfield": "lnqtools.images.hounsfield",
    "lnqtools.itk": "lnqtools.images.itk",
    "lnqtools.orientation": "lnqtools.images.orientation",
    "lnqtools.resampling": "lnqtools.images.resampling",
    "lnqtools.views": "lnqtools.images.views",
    "lnqtools.volume": "lnqtools.images.volume",
    "lnqtools.components": "lnqtools.components.diameters",
    "lnqtools.anatomy": "lnqtools.anatomy.maps",
    "lnqtools.lungs": "lnqtools.anatomy.lungs",
    "lnqtools.weaklabel": "lnqtools.labels.weak",
    "lnqtools.masks": "lnqtools.labels.masks",
    "lnqtools.pseudolabel": "lnqtools.labels.fill",
    "lnqtools.cohort_statistics": "lnqtools.labels.cohorts",
    "lnqtools.lost_nodes": "lnqtools.labels.lost",
    "lnqtools.metrics": "lnqtools.metrics.masks",
    "lnqtools.lesions": "lnqtools.metrics.lesions",
    "lnqtools.statistics": "lnqtools.metrics.summaries",
    "lnqtools.thresholds": "lnqtools.metrics.sweep",
    "lnqtools.comparison": "lnqtools.comparison.tables",
    "lnqtools.comparison_text": "lnqtools.comparison.text",
    "lnqtools.nnunet.results_folder": "lnqtools.nnunet.model_folder",
}

STAY = ("errors", "choices", "memory")
"""Modules directly below lnqtools that stay there."""

ROOMS = {
    "files": "Files of any kind: whole or not there, streams, locks, and tables as text.",
    "images": "Images: where their voxels lie, and the files that hold them.",
    "components": "Connected components of masks: found, measured, matched.",
    "anatomy": "What a chest CT holds besides lymph nodes: named structures, and the lungs.",
    "labels": "Training labels: 0 background, 1 lymph node, 2 unknown.",
    "metrics": "How well a prediction agrees with its reference.",
    "comparison": "Models side by side, by their metrics on the same cases.",
}
"""New packages, and what their ``__init__.py`` says."""

TESTS = {
    "test_atomic": "files.test_atomic",
    "test_tables": "files.test_tables",
    "test_typeset": "files.test_typeset",
    "test_streams": "files.test_streams",
    "test_grid": "images.test_grid",
    "test_hounsfield": "images.test_hounsfield",
    "test_content": "images.test_content",
    "test_foreign": "files.test_foreign",
    "test_itk": "images.test_itk",
    "test_orientation": "images.test_orientation",
    "test_resampling": "images.test_resampling",
    "test_views": "images.test_views",
    "test_volume": "images.test_volume",
    "test_components": "components.test_components",
    "test_anatomy": "anatomy.test_maps",
    "test_lungs": "anatomy.test_lungs",
    "test_weaklabel": "labels.test_weak",
    "test_masks": "labels.test_masks",
    "test_instances": "labels.test_instances",
    "test_pseudolabel": "labels.test_fill",
    "test_cohort_statistics": "labels.test_cohorts",
    "test_metrics": "metrics.test_masks",
    "test_metric_peers": "metrics.test_peers",
    "test_lesions": "metrics.test_lesions",
    "test_lost_nodes": "labels.test_lost",
    "test_statistics": "metrics.test_summaries",
    "test_thresholds": "metrics.test_sweep",
    "test_comparison": "comparison.test_comparison",
    "test_figures": "figures.test_figures",
    "test_report": "report.test_report",
    "test_report_browser": "report.test_browser",
    "test_phantom": "phantom.test_phantom",
    "test_nnunet": "nnunet.test_nnunet",
    "test_predict": "nnunet.test_predict",
    "test_training": "nnunet.test_training",
    "test_folds": "nnunet.test_folds",
    "test_loading": "nnunet.test_loading",
    "test_node_label": "nnunet.test_node_label",
    "test_model_keys": "nnunet.test_model_keys",
    "test_view": "nnunet.test_view",
    "test_recipes": "nnunet.test_recipes",
    "test_results_folder": "nnunet.test_model_folder",
    "test_totalseg": "totalseg.test_totalseg",
    "test_totalseg_data": "totalseg.test_stand_ins",
}
"""Below ``tests``, files that belong to one room; what is about the whole stays."""

TESTS_STAY = (
    *("test_ablation", "test_corpus", "test_examples", "test_examples_data", "test_man"),
    *("test_pipeline", "test_properties", "test_properties_tables", "test_readme", "test_real"),
    *("test_security", "test_suite", "test_torture", "test_torture_faults", "test_house"),
    "test_storage",
)

TEST_PACKAGES = {"tests.torture": "torture"}

# Step B: splits, in this order; each is a commit.


def reads_without_volume(text: str) -> str:
    """Let ``_read_nifti`` return what a Volume is made of, so that NIfTI stands below volumes."""
    tree = ast.parse(text)
    reader = next(n for n in tree.body if getattr(n, "name", "") == "_read_nifti")
    volume = next(n for n in tree.body if getattr(n, "name", "") == "Volume")
    types = [ast.unparse(n.annotation) for n in volume.body if isinstance(n, ast.AnnAssign)]
    made = [
        n.value
        for n in ast.walk(reader)
        if isinstance(n, ast.Return) and ast.unparse(n.value).startswith("Volume(")
    ]
    if len(made) != 1 or made[0].keywords:
        raise ValueError("returns something else than one Volume of positional arguments")
    old = ast.get_source_segment(text, made[0])
    begin = text.index("def _read_nifti")
    head, body = text[:begin], text[begin:]
    parts = ", ".join(types[: len(made[0].args)])
    body = body.replace(" -> Volume:", f" -> tuple[{parts}]:", 1)
    body = body.replace(old, old.removeprefix("Volume(").removesuffix(")"), 1)
    call = re.compile(r"(?<!def )\b_read_nifti\((\w+)\)")
    if not call.search(head):
        raise ValueError("is not called before it is defined")
    return call.sub(r"Volume(*_read_nifti(\1))", head) + body


SPLITS = [
    Split(
        "lnqtools.images.grid",
        title="Boxes are a module of their own, below grids",
        places={
            "lnqtools.images.box": ["Box", "whole_box", "bounding_box", "joined_box?"],
            "lnqtools.images.grid": [
                *("Reals", "Counts", "SAME_VOXEL", "MAX_SHEAR_MM", "SPACING_RANGE_MM", "Grid"),
                *("LatticeMap", "difference", "lattice_map", "carry_box", "place", "overlap"),
                *("fill_value", "cut_out", "corner_distance", "straightened"),
                *("_reals", "_counts", "_lattice_difference", "is_orientation?", "EVEN?"),
            ],
        },
        docs={"lnqtools.images.box": "Boxes of voxels: a slice for each array axis, z, y, x."},
        dissolve=False,
    ),
    Split(
        "lnqtools.images.volume",
        title="NIfTI has a module of its own; volume.py holds what all formats share",
        places={
            "lnqtools.images.nifti": [
                *("Extension", "MAX_EXTENSION_BYTES", "MAX_SIDE", "MAX_FORM_DIFFERENCE_MM"),
                *("MAX_COORDINATE", "MAX_QUATERNION?", "UNIT_IN_MM", "MAX_LEVELS", "COMMENT_CODE"),
                *("read_provenance", "provenance_of", "_record", "_is_shallow"),
                *("_read_nifti", "_read_exactly", "_read_header", "_read_extensions"),
                *("_read_geometry", "_three_dimensions", "_voxel_type", "_believed_affine"),
                *("_usable", "_refuse_impossible_size", "_read_voxels", "_scaled"),
                *("_scaled_integers", "_write_nifti", "_write_to_standard_output", "_header_of"),
            ],
            "lnqtools.images.volume": [
                *("NIFTI_SUFFIXES", "ITK_SUFFIXES", "SUFFIXES", "Volume", "read_volume"),
                *("read_label", "as_label", "_rounded?", "assumed?", "read_grid", "read_geometry", "image_suffix"),
                *("_is_itk?", "is_itk?", "_read_itk?", "write_volume"),
            ],
        },
        docs={
            "lnqtools.images.volume": (
                "Volumes, and the files that hold them: who wants an image, reads and writes it here."
            ),
            "lnqtools.images.nifti": (
                "NIfTI: voxels, geometry and records out of its files and into them.\n\n"
                "Headers go through nibabel's header classes, the voxels through isal straight "
                "into or out of one array. SimpleITK does not touch NIfTI files: it takes damaged "
                "ones for whole and reports no full disk (measured with 2.5.7)."
            ),
        },
        renamed={"_read_geometry": "geometry_of"},
        before=[reads_without_volume],
        says={
            "read_nifti": "Return the voxels, grid, notes and header extensions of a NIfTI file.",
            "geometry_of": "Return the grid that a header describes, and notes.",
            "voxel_type": "Return the type of the voxels, or raise LnqError for what is not a plain number.",
            "write_nifti": "Write an uncompressed NIfTI-1 image to a stream, a plane at a time.",
            "write_to_standard_output": "Write an image to standard output, or say why not.",
        },
        dissolve=False,
    ),
    Split(
        "lnqtools.images.itk",
        title="NRRD and MetaImage are read in modules of their own",
        places={
            "lnqtools.images.headers": [
                *("MAX_HEADER_LINES", "MM", "_is_meta", "_data_file", "_refuse_units"),
                *("_check_dimensions", "_lps_grid", "Notes?", "_ignored?"),
            ],
            "lnqtools.images.nrrd": [
                *("ENCODINGS", "TIMES", "NRRD_SPACES", "NO_PATIENT", "_nrrd_fields"),
                *("_check_nrrd_fields", "_finite", "_read_nrrd", "_open_nrrd", "_nrrd_grid"),
                *("_check_nrrd_voxels", "_length_of_voxels"),
            ],
            "lnqtools.images.metaimage": [
                *("META_TYPES", "META_NUMBERS", "META_ORIGINS", "META_DIRECTIONS"),
                *("META_INTENSITY", "META_YES", "META_ORDERS", "META_NAMES", "META_SPELLING"),
                *("MAX_META_SIDE", "MAX_META_STRETCH", "_meta_fields", "_check_meta_fields"),
                *("_read_meta", "_meta_voxels", "_unpacked_voxels", "_meta_grid", "_says_yes"),
            ],
            "lnqtools.images.itk": [
                *("read_itk", "read_itk_grid", "_read_fields", "_text_header", "_notes"),
            ],
        },
        renamed={"_ignored": "note_of_ignored"},
        says={
            "note_of_ignored": "Return what to say of bytes that follow the voxels.",
            "is_meta": "Tell whether a header is a MetaImage's.",
            "refuse_units": "Raise LnqError for lengths in another unit than those that are known.",
            "MM": "Units of lengths that are mm, or not given.",
        },
        patches=[
            (
                "lnqtools.images.nrrd",
                '"""Units that say nothing against mm; of a fourth axis, of one volume."""',
                '"""Units of a fourth axis, of one volume, which say nothing against mm."""',
            ),
        ],
        docs={
            "lnqtools.images.itk": (
                "NRRD and MetaImage, ITK's formats: arrays and grids out of their files.\n\n"
                "Which of the two a file is, its first line says, not its name."
            ),
            "lnqtools.images.headers": (
                "What the text headers of NRRD and MetaImage have in common, and their grid."
            ),
            "lnqtools.images.nrrd": (
                "NRRD: its header, and its voxels through SimpleITK.\n\n"
                "SimpleITK reads them once they are found to be whole: it takes damaged files for "
                "whole (measured with 2.5.7)."
            ),
            "lnqtools.images.metaimage": (
                "MetaImage: its header and its voxels.\n\n"
                "They are read without SimpleITK: for some names of data files it writes beyond "
                "its memory, it says what is wrong on standard error, and it takes packed voxels "
                "that it could not unpack for read."
            ),
        },
        dissolve=False,
    ),
    Split(
        "lnqtools.files.tables",
        title="A component's place in the world is no business of files",
        places={
            "lnqtools.components.rows": ["in_world"],
            "lnqtools.files.tables": ["Row", "FORMATS", "table_lines", "cell_text", "read_table"],
        },
        docs={
            "lnqtools.components.rows": (
                "Components as rows of tables: what columns are called, and what they hold."
            ),
        },
        dissolve=False,
    ),
    Split(
        "lnqtools.components.diameters",
        title="Components are found, measured, sorted and tabulated in modules of their own",
        places={
            "lnqtools.components.labelling": [
                *("CONNECTIVITIES", "foreground_indices", "Runs", "label_runs", "expand_ranges"),
                *("Components", "find_components", "components_of", "_sum_by_component"),
                *("check_mask", "check_spacing?", "group_runs?", "find_instances?", "keep"),
            ],
            "lnqtools.components.diameters": ["METRICS", "diameters_mm", "_measure", "degenerate"],
            "lnqtools.components.sizes": [
                *("MM3_PER_ML", "large_enough", "filter_diameters_mm"),
                *("at_least", "bin_numbers", "bin_columns"),
            ],
            "lnqtools.components.rows": ["column_name", "component_table"],
        },
        docs={
            "lnqtools.components.labelling": (
                "Connected components of a mask.\n\n"
                "The mask is read once, as 64-bit words, to list its foreground voxels. Everything "
                "after that works on runs (voxels that follow each other along the last axis), so "
                "the cost grows with the foreground and not with the volume or with the number of "
                "components.\n\n"
                "Arrays are (z, y, x); ``spacing`` is in mm in the array's order."
            ),
            "lnqtools.components.diameters": "Shortest diameters of components, in mm.",
            "lnqtools.components.sizes": (
                "Which components are large enough, and bins and strata of their sizes."
            ),
        },
        renamed={"_measure": "diameters_by_metric"},
    ),
    Split(
        "lnqtools.metrics.lesions",
        title="Lesions are matched among the components; what is told of them is a metric",
        places={
            "lnqtools.components.matching": [
                *("Overlaps", "component_overlaps", "_run_labels", "Lesions", "LesionPair"),
                *("find_lesions", "compare_components", "best_first", "_lesions"),
            ],
            "lnqtools.components.sizes": ["STRATA_MM", "STRATA", "_strata"],
            "lnqtools.metrics.lesions": [
                *("SIDES", "HIT_IOUS", "lesion_table", "overlap_by_diameter", "detection_table"),
                *("pool_detection", "summarise_detection"),
            ],
        },
        docs={
            "lnqtools.components.matching": "=Lesions of two masks: what they have in common, and which are partners.",
            "lnqtools.metrics.lesions": (
                "Agreement of two masks lesion by lesion: tables of lesions, and their detection.\n\n"
                "A lesion is a connected component; which of one mask belongs to which of the other "
                "is said in :mod:`lnqtools.components.matching`."
            ),
        },
    ),
    Split(
        "lnqtools.anatomy.maps",
        title="Names of labels in headers belong to images",
        places={
            "lnqtools.images.names": [
                *("LABEL_TABLE_CODE", "_LABEL", "label_table", "names_in_header"),
                *("names_table_path", "WITH_TABLE?"),
            ],
            "lnqtools.anatomy.maps": [
                *("LOBES", "MAX_LUNG_MASK_LABEL", "PRESETS", "LUNG_VESSELS", "TRUNK_CAVITIES"),
                *("NAMES_HEADING", "NamelessMapError", "class_names", "_names_by_kind", "_map_of"),
                *("check_task", "names_table", "read_map", "structure_names"),
                *("chosen_labels", "labels_mask", "lung_mask"),
            ],
        },
        docs={
            "lnqtools.images.names": "Names of labels: in the headers of images that hold them, or in a table beside."
        },
        dissolve=False,
    ),
    Split(
        "lnqtools.labels.weak",
        title="What a training label is stands apart from how one is made",
        places={
            "lnqtools.images.grid": ["FLOAT32_MM"],
            "lnqtools.labels.training": [
                *("BACKGROUND", "NODE", "UNKNOWN", "LABEL_NAMES", "with_background"),
                *("LabelCounts", "count_labels", "refuse_unknown", "check_label"),
                *("is_training_label?", "tells_unknown?"),
            ],
            "lnqtools.labels.weak": ["STRATEGIES", "drawn_nodes", "Coat", "weak_label"],
        },
        docs={
            "lnqtools.labels.training": (
                "Training labels: 0 background, 1 lymph node, 2 unknown (the loss leaves it out)."
            ),
            "lnqtools.labels.weak": (
                "Training labels from incomplete annotations.\n\n"
                "Strategies as in section 2 of Fischer et al., \"Mask the Unknown\" (2024)."
            ),
        },
    ),
    Split(
        "lnqtools.metrics.sweep",
        title="The picture of a sweep is a figure; its reference is a label",
        places={
            "lnqtools.figures.sweep": ["PANELS", "sweep_picture", "_draw_sweep", "_name_of", "_title"],
            "lnqtools.labels.training": ["check_reference"],
            "lnqtools.metrics.sweep": [
                *("SCORES", "CASE_COLUMNS", "COLUMNS", "Counts", "CaseSweep", "sweep_case"),
                *("case_rows", "sweep_rows", "best_point", "_ratios", "_plain", "_voxel_scores"),
            ],
        },
        docs={
            "lnqtools.figures.sweep": "The picture of a sweep of thresholds and diameter filters."
        },
    ),
    Split(
        "lnqtools.comparison.tables",
        title="Comparison: tables of models, summaries, paired tests, ranking",
        places={
            "lnqtools.errors": ["_NAMED_CASES", "listed"],
            "lnqtools.metrics.columns": ["_BETTER", "known_direction"],
            "lnqtools.comparison.tables": [
                *("Row", "FloatArray", "ModelTable", "Scores", "select_rows", "read_model"),
                *("missing_cases", "describe_missing", "differing_references", "align", "fill"),
                *("undefined_counts", "same_cases", "_higher_is_better", "_defined"),
            ],
            "lnqtools.comparison.summaries": [
                *("_RESAMPLED_VALUES", "bootstrap_interval", "summary_rows"),
            ],
            "lnqtools.comparison.paired": [
                *("METHODS", "ZEROS", "ADJUSTMENTS", "SignedRank", "signed_rank_test"),
                *("paired_differences", "_without_noise", "hodges_lehmann", "adjust_p_values"),
                *("pair_rows", "matrix_rows"),
            ],
            "lnqtools.comparison.ranking": ["RANKINGS", "rank_rows"],
        },
        docs={
            "lnqtools.metrics.columns": "What is known of each column of a table of metrics.",
            "lnqtools.comparison.tables": (
                "Tables of models, brought together case by case.\n\n"
                "A model's table has one row per case, as `lnqtools.metrics.masks.evaluate` gives it."
            ),
            "lnqtools.comparison.summaries": (
                "Each model's values over the cases, with bootstrap intervals.\n\n"
                "Everything random is drawn from a generator that begins anew with the seed, so "
                "that a number depends on the seed and on the values it is computed from, not on "
                "what else is in the table."
            ),
            "lnqtools.comparison.paired": "Paired tests of models, two by two.",
            "lnqtools.comparison.ranking": (
                "Models in order, and how sure the order is.\n\n"
                "Samples are drawn as in `lnqtools.comparison.summaries`."
            ),
        },
    ),
    Split(
        "lnqtools.nnunet.train",
        title="Locks of files are no business of nnU-Net's",
        places={
            "lnqtools.files.locks": ["_locked", "_released"],
            "lnqtools.nnunet.train": [
                *("TRAINER", "LOCK", "PREPARED", "COHORT_TABLE", "FULL_DISK_BYTES", "LEAST_TOLD"),
                *("Existing", "train", "trainer_lookup", "_tidy_up", "_hold", "_is_held"),
                *("_alone", "_lock_of", "_write_cohorts", "_clear"),
            ],
        },
        docs={"lnqtools.files.locks": "Locks between processes, by files that are there meanwhile."},
        dissolve=False,
    ),
    Split(
        "lnqtools.nnunet.prepare",
        title="JSON files are files",
        places={
            "lnqtools.files.json_files": ["read_json", "write_json"],
            "lnqtools.nnunet.prepare": [
                *("DATASET", "CONFIGURATION", "PLANS", "SPLITS", "COHORTS", "MIN_FEATURE_MAP_EDGE"),
                *("BASE_FEATURES", "MAX_FEATURES", "CONVOLUTIONS", "RESIDUAL_BLOCKS"),
                *("nnunet_folders", "dataset_folder", "planned_cases", "full_cases?"),
                *("write_plans", "make_plans", "preprocess"),
            ],
        },
        docs={"lnqtools.files.json_files": "JSON files, read and written whole."},
        dissolve=False,
    ),
    Split(
        "lnqtools.nnunet.environment",
        title="Memory is asked for by whoever needs it, not by nnU-Net alone",
        places={
            "lnqtools.memory": ["require_memory"],
            "lnqtools.nnunet.environment": [
                *("require_nnunet", "choose_device", "is_out_of_memory", "environment"),
                *("compiler_cache", "torch_threads", "chatter_to"),
            ],
        },
        docs={"lnqtools.memory": "Whether what a step needs fits into this machine's memory."},
        dissolve=False,
    ),
    Split(
        "lnqtools.nnunet.predict",
        title="Which label is the lymph node, and what a model may name, are files of their own",
        places={
            "lnqtools.nnunet.node_label": [
                *("NODE_NAMES?", "CT_NAMES?", "_node_channel?", "_foreground?", "_is_node_name?"),
                *("_node_label?", "_doubts?"),
            ],
            "lnqtools.nnunet.trust": [
                *("NETWORK_PACKAGES", "refuse_code", "_check_network_classes", "_is_network_part"),
            ],
            "lnqtools.nnunet.predict": [
                *("LINEAR_RESAMPLERS", "Prediction", "Workload", "Predictor", "Ensemble"),
                *("_check_threshold", "_load_fold", "_label_manager"),
            ],
        },
        docs={
            "lnqtools.nnunet.node_label": "Which of a model's labels is the lymph node.",
            "lnqtools.nnunet.trust": "What a model may name without running code that is not known.",
        },
        dissolve=False,
    ),
    Split(
        "lnqtools.cli._options",
        stay=r"[A-Z_]+_OPTIONS?",
        title="The command line: values, the batch contract's options, and options that tools share",
        places={
            "lnqtools.cli._tool": ["shared_option", "command", "was_given"],
            "lnqtools.cli._values": [
                *("PATH", "ZYX", "XYZ", "FiniteRange", "HU", "EmptyPolicy", "Hit", "Window"),
                *("Shard", "Orientation?", "LabelValues?", "parse_structures"),
            ],
            "lnqtools.cli._contract": [
                *("INPUT_OPTIONS", "JOBS_OPTION", "VOICE_OPTIONS", "FORCE_OPTION", "SKIP_OPTION"),
                *("TABLE_OUTPUT_OPTION", "OUTPUT_DIR_OPTION", "FOLDER_OPTION", "OUTPUT_OPTIONS"),
                *("image_tool", "table_tool", "folder_tool", "SHARED_NAMES", "make_batch"),
                *("file_identity", "read_bytes", "read_paths"),
            ],
            "lnqtools.cli._options": [
                *("refuse_idle_options", "FORMAT_OPTION", "PAPER_FORMAT_OPTION"),
                *("DEGENERATE_OPTION", "METRIC_OPTION", "TOLERANCE_OPTION", "EDGE_OPTION"),
                *("PRESET_OPTION", "RESAMPLE_OPTION", "HIT_OPTION", "RESAMPLES_OPTION"),
                *("SEED_OPTION", "WINDOW_OPTION", "ENLARGED_OPTION", "CLASSES_OPTION"),
                *("REPLACE_NAN_OPTION", "connectivity_option", "LUNGS_OPTION", "MARGIN_OPTION"),
            ],
        },
        docs={
            "lnqtools.cli._values": "Types of values on the command line.",
            "lnqtools.cli._contract": "Options of the batch contract, and the batch that they make.",
        },
        dissolve=False,
    ),
    Split(
        "lnqtools.cli._batch",
        title="The command line: cases and their names",
        places={
            "lnqtools.cli._plan": ["STREAM?", "case_name?", "Case?", "files_by_case?"],
            "lnqtools.cli._batch": [
                *("Outcome", "Batch", "end_as", "about", "check_table_place?", "write_table?"),
                *("write_lines?", "write_file?", "_check_writable?"),
            ],
        },
        docs={"lnqtools.cli._plan": "The cases of a run, and their names."},
        dissolve=False,
    ),
]

NO_PROPERTIES = ("files/locks", "memory", "nnunet/node_label", "nnunet/trust")
"""Split off from modules whose functions need no property (tests/test_suite.py)."""

# Pieces of text that no rule finds: (step, file after the step, old, new). An old text that is not
# there exactly once is an error.

PATCHES = [
    ("close", "CONTRIBUTING.md", "`cli/_options.py` turns it", "`cli/_values.py` turns it"),
    ("A", "pyproject.toml", '"torture/**" = ["T20"]', '"torture/**" = ["D", "T20", "TID251", "TID253"]'),
    ("A", "MANIFEST.in", "graft tests\n", "graft tests\ngraft torture\n"),
    (
        "lnqtools.images.itk",
        "pyproject.toml",
        "lnqtools/images/itk.py and",
        "lnqtools/images/nrrd.py and",
    ),
    (
        "lnqtools.images.itk",
        "pyproject.toml",
        '"lnqtools/images/itk.py" =',
        '"lnqtools/images/nrrd.py" =',
    ),
    (
        "lnqtools.images.itk",
        "tests/test_suite.py",
        '"lnqtools/images/itk.py"',
        '"lnqtools/images/nrrd.py"',
    ),
    (
        "before lnqtools.components.diameters",
        "lnqtools/cli/filter_diameter.py",
        "    columns = _columns(components)\n",
        "    columns = _columns(map(components.column_name, components.METRICS))\n",
    ),
    (
        "before lnqtools.components.diameters",
        "lnqtools/cli/filter_diameter.py",
        "def _columns(components) -> tuple[str, ...]:\n",
        "def _columns(diameters: Iterable[str]) -> tuple[str, ...]:\n",
    ),
    (
        "before lnqtools.components.diameters",
        "lnqtools/cli/filter_diameter.py",
        "        *(components.column_name(metric) for metric in components.METRICS),\n",
        "        *diameters,\n",
    ),
    (
        "before lnqtools.components.diameters",
        "lnqtools/cli/filter_diameter.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\n\nfrom collections.abc import Iterable\n",
    ),
    (
        "lnqtools.metrics.lesions",
        "lnqtools/metrics/sweep.py",
        "see lnqtools.metrics.lesions\n",
        "see components.matching\n",
    ),
    (
        "lnqtools.comparison.tables",
        "lnqtools/comparison/text.py",
        "Each function takes rows of `lnqtools.comparison.tables` and",
        "Each function takes rows of the modules beside this one and",
    ),
    (
        "lnqtools.cli._options",
        "tests/test_suite.py",
        'makers == ["lnqtools/cli/_options.py"]',
        'makers == ["lnqtools/cli/_values.py"]',
    ),
    (
        "A-tests",
        "tests/cli/test_infer.py",
        "trained ones are in tests/nnunet/test_nnunet.py.",
        "trained ones: tests/nnunet/test_nnunet.py.",
    ),
]
