"""The pieces that make a tool, and the rules that hold for all of the code."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

import lnqtools
from tests.cli.cohort import TOOLS as COHORT_TOOLS
from tests.cli.cohort import make_cohort
from tests.conftest import ROOT, succeed
from tests.suite import COMMANDS, MODULES, TOOLS, command, options, parse

HEAVY = (
    *("torch", "nnunetv2", "totalsegmentator", "matplotlib", "skimage", "SimpleITK"),
    *("pydicom", "highdicom"),
)
NUMERICAL = ("numpy", "scipy", "nibabel", "cc3d", "isal")
CODE = sorted((ROOT / "lnqtools").rglob("*.py"))

RELEASES = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", re.MULTILINE)
"""The version and the day of a release, as CHANGELOG.md has them."""

SECTIONS_OF_CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

each_tool = pytest.mark.parametrize("tool", TOOLS)
each_command = pytest.mark.parametrize("name", COMMANDS)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The pieces of each tool


@each_tool
def test_module_has_a_main_of_the_tools_name(tool):
    assert MODULES[tool] == f"lnqtools.cli.{tool.removeprefix('lnq-').replace('-', '_')}"
    assert command(tool).name == tool


def test_every_module_of_a_tool_is_installed():
    modules = [path.stem for path in (ROOT / "lnqtools" / "cli").glob("[a-z]*.py")]
    assert sorted(f"lnqtools.cli.{stem}" for stem in modules) == sorted(MODULES.values())


@each_tool
def test_launcher_can_be_run(tool):
    launcher = ROOT / "bin" / tool
    assert os.access(launcher, os.X_OK)
    assert launcher.read_text().startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize(("folder", "suffix"), [("bin", ""), ("man/man1", ".1")])
def test_launchers_and_pages_are_those_of_the_tools(folder, suffix):
    there = [path.name for path in (ROOT / folder).iterdir() if path.is_file()]
    assert sorted(there) == sorted(f"{tool}{suffix}" for tool in TOOLS)


def test_man_pages_are_installed():
    assert re.search(r"^share/man/man1 = man/man1/\*\.1$", (ROOT / "setup.cfg").read_text(), re.M)


@each_tool
def test_readme_has_a_row(tool):
    assert f"\n| `{tool}` |" in (ROOT / "README.md").read_text()


@each_tool
def test_changelog_mentions_it(tool):
    assert f"`{tool}`" in (ROOT / "CHANGELOG.md").read_text()


@each_tool
def test_it_has_tests_of_its_own(tool):
    name = MODULES[tool].rpartition(".")[2]
    assert "def test_" in (ROOT / "tests" / "cli" / f"test_{name}.py").read_text()


@each_tool
def test_version_is_the_packages(tool):
    assert succeed(tool, "--version").out == f"{tool} {lnqtools.__version__}\n"


def test_version_is_written_once():
    assert "version = attr: lnqtools.__version__" in (ROOT / "setup.cfg").read_text()


def test_citation_and_changelog_are_of_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    first, *_ = RELEASES.findall((ROOT / "CHANGELOG.md").read_text())
    assert first == (citation["version"], str(citation["date-released"]))
    assert citation["version"] == lnqtools.__version__


@pytest.mark.parametrize("page", sorted((ROOT / "man").glob("man?/*")), ids=lambda path: path.name)
def test_man_page_is_of_the_version(page):
    assert f"\n.Os lnq-tools {lnqtools.__version__}\n" in page.read_text()


def test_changelog_keeps_its_form():
    """As keepachangelog.com has it: the unreleased first, then releases, each in known sections."""
    text = (ROOT / "CHANGELOG.md").read_text()
    unreleased, *releases = re.findall("^## (.*)$", text, re.MULTILINE)
    assert unreleased == "Unreleased"
    assert releases == [f"{version} - {day}" for version, day in RELEASES.findall(text)]
    assert set(re.findall("^### (.*)$", text, re.MULTILINE)) <= SECTIONS_OF_CHANGES


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_what_is_in_the_checkout_is_in_the_sdist():
    """By MANIFEST.in; `make release` looks into the archive itself."""
    command = ["git", "ls-files", "-z"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    said = {"graft": {"lnqtools"}, "include": {"README.md", "pyproject.toml", "setup.cfg"}}
    said["include"] |= {"LICENSE", "MANIFEST.in"}  # as those, without being asked for
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        word, *names = line.split()
        said.setdefault(word, set()).update(names)
    there = [name.partition("/") for name in tracked.split("\0") if name]
    assert {top for top, inside, _ in there if inside} == said["graft"]
    assert {top for top, inside, _ in there if not inside} == said["include"]


@each_command
def test_every_option_has_a_help_text(name):
    for option in options(name):
        text = option.help or ""
        assert re.fullmatch(r"[A-Za-z].*[.\])]", text), f"{option.opts}: {text!r}"


@each_command
def test_its_help_ends_with_an_example_that_fits(name):
    *_, example, more = command(name).epilog.splitlines()
    tool, *arguments = shlex.split(example.removeprefix("Example: ").partition(" >")[0])
    parse(tool, arguments)
    assert [tool, *arguments][: len(name.split())] == name.split()
    assert more == f"More: man {tool}"


# What running a tool loads

REPORTER = """
import json, runpy, sys
launcher, *calls = sys.argv[1:]
for call in calls:
    sys.argv = [launcher, *json.loads(call)]
    try:
        runpy.run_path(launcher, run_name="__main__")
    except SystemExit as end:
        status = end.code or 0
    loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module}
    print("LOADED", status, *sorted(loaded))
"""


def modules_after(tool: str, *calls: Sequence[str], cwd: Path) -> tuple[str, list[set[str]]]:
    """Call a launcher of the checkout in one process; return what it wrote, and what was loaded."""
    done = subprocess.run(
        [sys.executable, "-c", REPORTER, ROOT / "bin" / tool, *map(json.dumps, calls)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
    )
    reports = [line.split() for line in done.stdout.splitlines() if line.startswith("LOADED ")]
    assert [status for _, status, *_ in reports] == ["0"] * len(calls), done.stderr
    return done.stdout + done.stderr, [set(modules) for _, _, *modules in reports]


@each_command
def test_help_loads_no_library_but_click(name, tmp_path):
    tool, *inner = name.split()
    said, (modules,) = modules_after(tool, [*inner, "--help"], cwd=tmp_path)
    assert said.startswith(f"Usage: {name} ")
    assert "click" in modules
    assert modules & {*HEAVY, *NUMERICAL} == set()


PART = ("ann/plain.nii.gz", "--reference", "truth", "--missing", "drop")
CALLS = {
    **{
        tool.name: [
            (f"{tool.inputs}/plain.nii.gz", *tool.options, *(tool.companion or ()), "-O", "out")
        ]
        for tool in COHORT_TOOLS
        if tool.name != "lnq-infer"
    },
    "lnq-metrics": [
        (*PART, *form.split(), "-o", f"m{form}.tsv")
        for form in ("", "--summary", "--lesions", "--by-diameter 2.5", "--detection --summary")
    ],
    "lnq-stats": [
        ("--set", "A=label", "--table", table, "--format", "markdown", "-o", f"{table}.md")
        for table in ("data-sets", "voxels", "diameters", "cases")
    ],
    "lnq-compare": [
        ("A=a.tsv", "B=a.tsv", "--metric", "dice", "--table", table, "-o", f"{table}.tsv")
        for table in ("summary", "pairs", "ranking", "significance", "power")
    ],
    "lnq-threshold": [("probability/plain.nii.gz", "--reference", "truth", "-o", "t.tsv")],
    "lnq-phantom": [("-n", "1", "-O", "out")],
}
"""Calls for which the numerical libraries are enough; each ends with what it makes."""
CALLS["lnq-crop"] += [
    ("ann/plain.nii.gz", "--label", "--like", "ct", "-O", "like"),
    ("ct/plain.nii.gz", "--lungs", "none", "--spacing", "2", "-O", "linear"),
]
CALLS["lnq-filter-diameter"] += [
    ("ann/plain.nii.gz", "--metric", "recist", "--table", "nodes.tsv", "-O", "filtered")
]
HEAVY_CALLS = {
    "lnq-crop": ([*CALLS["lnq-crop"][-1], "--interpolation", "label-gaussian", "-f"], "SimpleITK"),
    "lnq-threshold": ([*CALLS["lnq-threshold"][0], "-f", "--plot", "t.svg"], "matplotlib"),
}
"""Calls for which they are not, and what these need besides."""


@pytest.mark.parametrize("tool", CALLS)
def test_a_tool_loads_no_heavy_library_but_for_what_that_alone_does(tool, tmp_path):
    make_cohort(tmp_path)
    (tmp_path / "a.tsv").write_text("case\tdice\nx\t0.5\n")
    heavy_call, library = HEAVY_CALLS.get(tool, (None, None))
    calls = [*CALLS[tool], *([heavy_call] if heavy_call else [])]
    _, loaded = modules_after(tool, *calls, cwd=tmp_path)
    for call, modules in zip(CALLS[tool], loaded, strict=False):
        assert (tmp_path / call[-1]).exists()
        assert modules & {*HEAVY, "pydicom"} == set(), call
    assert loaded[-1] & set(HEAVY) == ({library} if library else set())


def test_a_metric_of_masks_does_not_wait_for_scipys_ndimage():
    """Its import takes longer than a case, and with -j each case's process makes its own."""
    imports = "import sys, lnqtools.metrics.masks, lnqtools.labels.weak"
    code = f"{imports}; sys.exit('scipy.ndimage' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Rules of the code


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each module that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.lineno


def importers(package: str) -> set[str]:
    return {
        name_of(path)
        for path in CODE
        for module, _ in imports(path)
        if module.partition(".")[0] == package
    }


def test_only_two_modules_import_simpleitk():
    assert importers("SimpleITK") == {"lnqtools/images/nrrd.py", "lnqtools/images/resampling.py"}


def test_only_the_command_line_knows_click():
    assert importers("click")
    assert {name for name in importers("click") if not name.startswith("lnqtools/cli/")} == set()


@pytest.mark.parametrize("package", ["torch", "nnunetv2"])
def test_only_the_nnunet_package_imports_it(package):
    assert importers(package)
    assert {name for name in importers(package) if not name.startswith("lnqtools/nnunet/")} == set()


def test_domain_modules_do_not_import_the_command_line():
    domain = [path for path in CODE if path.parent.name != "cli"]
    knowing = {
        name_of(path)
        for path in domain
        for module, _ in imports(path)
        if module.startswith("lnqtools.cli")
    }
    assert knowing == set()


def test_nothing_prints():
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
    ]
    assert found == []


SUBCLASSES = ("trainer.py", "spatial.py")
"""Modules of a subclass of nnU-Net's or its packages', imported to train only."""


def test_importing_the_modules_loads_no_heavy_library():
    modules = [
        name_of(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in CODE
        if path.name not in SUBCLASSES
    ]
    code = f"import sys\nfor m in {modules!r}: __import__(m)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert {name.partition(".")[0] for name in done.stdout.split()} & set(HEAVY) == set()


@pytest.mark.parametrize("tool", ["lnq-train", "lnq-infer"])
@pytest.mark.parametrize("missing", ["torch", "nnunetv2"])
def test_a_missing_extra_says_what_to_install(tool, missing, tmp_path):
    """A finder that hides a package stands in for an environment without it."""
    make_cohort(tmp_path)
    (tmp_path / "model" / "fold_0").mkdir(parents=True)
    (tmp_path / "model" / "fold_0" / "checkpoint_final.pth").write_bytes(b"")
    for name in ("plans.json", "dataset.json"):
        (tmp_path / "model" / name).write_text("{}")
    arguments = {
        "lnq-train": ["--images", "ct", "--labels", "label", "-m", "new"],
        "lnq-infer": ["ct/plain.nii.gz", "-m", "model", "-O", "out"],
    }[tool]
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: (\n"
        f"    None if name == {missing!r} else find(name, *rest))\n"
        f"from {MODULES[tool]} import main\n"
        f"main({arguments!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"{tool}: {missing} is not installed; pip install '.[nnunet]' in the checkout of lnqtools "
        "brings it\n"
    )


def test_no_path_is_looked_at_before_its_case():
    """The parser of options would refuse the whole run for one file that cannot be read."""
    from lnqtools.cli._values import PATH

    assert (PATH.exists, PATH.readable, PATH.writable) == (False, False, False)
    makers = [name_of(path) for path in CODE if "click.Path(" in path.read_text()]
    assert makers == ["lnqtools/cli/_values.py"]


# Properties

NO_PROPERTIES = (
    # commands; what runs TotalSegmentator; pictures and pages
    *("cli", "totalseg"),
    *("report/contents", "report/folder", "report/origin", "report/page", "report/slices"),
    "report/summary",
    *("figures/cases", "figures/charts", "figures/curves", "figures/ranks", "figures/slices"),
    *("figures/style", "figures/surface"),
    # what trains or runs a network, and what is about the machine
    *("nnunet/train", "nnunet/trainer", "nnunet/window", "nnunet/predict", "nnunet/prepare"),
    *("nnunet/checkpoint", "nnunet/environment", "nnunet/loading", "nnunet/threads"),
    *("files/locks", "memory", "nnunet/node_label", "nnunet/trust"),
    *("nnunet/model_state", "nnunet/runs", "nnunet/model."),
    # a server, and a folder of models
    *("models/download", "models/store", "models/describe"),
)
"""Folders and modules whose functions need no property."""
NO_PROPERTY = {
    *("files/atomic.private_folder", "files/atomic.remove_stale_temporaries"),  # of other processes
    "files/atomic.remove_unfinished",  # for a process that ends
    *("nnunet/curve.draw_curve", "figures/sweep.sweep_picture"),  # draw
    *("nnunet/model_folder.open_model", "nnunet/model_folder.find_checkpoints"),  # of a network
    "nnunet/model_folder.unpack",
    *("nnunet/model_folder.read_metadata", "nnunet/model_folder.metadata_digest"),
    *("nnunet/initial.opened_start", "nnunet/initial.check_recipe"),
    "nnunet/initial.make_plans_from",
    *("nnunet/validate.validate_fold", "nnunet/validate.gather_tables"),  # run a network
    *(
        "nnunet/augmentation.augmenting_trainer",
        "nnunet/augmentation.kept_transforms",
    ),  # nnU-Net's parts
    "nnunet/optimizer.make_optimizer",  # torch's
    *("nnunet/precision.check_precision", "nnunet/precision.processor_flags"),  # of a machine
    *("nnunet/precision.computing_in", "nnunet/precision.computes_in"),
}
"""Functions of the other modules that need none either."""
DOMAIN = {
    name_of(path).removeprefix("lnqtools/").removesuffix(".py"): path
    for path in CODE
    if not name_of(path).removeprefix("lnqtools/").startswith(NO_PROPERTIES)
}


def words(code: ast.AST) -> set[str]:
    """Return the names and attributes in a piece of code."""
    nodes = list(ast.walk(code))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def definitions(path: Path) -> dict[str, set[str]]:
    """Return the words of each function, class and constant of a module."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = words(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = words(node.value)
    return found


def words_of_properties() -> set[str]:
    """Return what the properties name, and what that names in turn."""
    package: dict[str, set[str]] = {}
    for path in DOMAIN.values():
        for name, its in definitions(path).items():
            package[name] = package.get(name, set()) | its
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if "@given" not in path.read_text():
            continue
        own = definitions(path)
        known = package | own
        new = {name for name, its in own.items() if name.startswith("test_") and "given" in its}
        seen: set[str] = set()
        while new:
            seen |= new
            new = set().union(*(known.get(name, set()) for name in new)) - seen
        found |= seen
    return found


def test_each_function_of_the_domain_has_a_property():
    """Names are compared, not what they stand for: one that two functions share passes for both."""
    functions = {
        f"{module}.{node.name}": node.name
        for module, path in DOMAIN.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    reached = words_of_properties()
    assert {name for name, bare in functions.items() if bare not in reached} == NO_PROPERTY
