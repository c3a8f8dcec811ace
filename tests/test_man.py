"""The man pages say what the tools do: options, defaults, columns, examples."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import pytest

from lnqtools.choices import METRICS
from lnqtools.cli._rules import Option
from lnqtools.metrics.masks import PRESETS
from tests.cli.cohort import make_cohort
from tests.conftest import ROOT, succeed
from tests.dicom_data import write_ct
from tests.suite import COMMANDS, TOOLS, command, help_record, options, parse

FOLDER = ROOT / "man" / "man1"
SECTIONS = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO")
SHARED_BY_COMMANDS = {
    "lnq-plot": "Figure options",
    "lnq-dicom": "Batch options",
    "lnq-model": "Common options",
}
WIDEST_EXAMPLE = 66
"""Columns that fit on an 80-column terminal, indented as examples are."""

INLINE_MACROS = frozenset(
    ["Ar", "Cm", "Dq", "Em", "Fl", "It", "Nm", "Ns", "Op", "Pa", "Pf", "Pq", "Ql", "Sx", "Va", "Xr"]
)

each_tool = pytest.mark.parametrize("tool", TOOLS)
each_command = pytest.mark.parametrize("name", COMMANDS)


# Reading mdoc


@dataclass(frozen=True)
class Item:
    """One entry of a list: its head without ``.It``, and the lines below it."""

    head: list[str]
    body: list[str]


@dataclass(frozen=True)
class Described:
    """An option as a page describes it."""

    spellings: list[str]
    value: str
    body: list[str]

    @property
    def text(self) -> str:
        return plain(self.body)


def page(tool: str) -> Path:
    return FOLDER / f"{tool}.1"


def lines_of(tool: str) -> list[str]:
    """Return the page's lines; one that ends with a backslash is joined with the next."""
    return page(tool).read_text().replace("\\\n", "").splitlines()


def section(tool: str, title: str, level: str = ".Sh") -> list[str]:
    """Return the lines of a section, or of a subsection."""
    lines = lines_of(tool)
    start = lines.index(f"{level} {title}") + 1
    ends = (".Sh",) if level == ".Sh" else (".Sh", ".Ss")
    rest = lines[start:]
    stop = next((k for k, line in enumerate(rest) if line.startswith(ends)), len(rest))
    return rest[:stop]


def items(lines: list[str]) -> list[Item]:
    """Return the entries of all lists, without those of lists within lists."""
    found: list[Item] = []
    depth = 0
    for line in lines:
        depth += line.startswith(".Bl ") - (line == ".El")
        if depth == 1 and line.startswith(".It "):
            found.append(Item(line.split()[1:], []))
        elif depth >= 1 and found:
            found[-1].body.append(line)
    return found


def plain(lines: list[str]) -> str:
    """Return running text without macros, near enough to search in."""
    words: list[str] = []
    for line in lines:
        if not line.startswith("."):
            words.append(line)
            continue
        dash = ""
        for token in line[1:].split():
            if token in INLINE_MACROS:
                dash = "-" if token == "Fl" else ""
            else:
                words.append(dash + token)
                dash = ""
    return re.sub(r" ([.,;:])", r"\1", " ".join(words))


def option_lines(name: str) -> list[str]:
    """Return the lines about a command's options.

    Those of a command of a group are in a subsection of its name and in the one that all share.
    """
    tool, _, inner = name.partition(" ")
    if inner:
        own = section(tool, inner, ".Ss") if f".Ss {inner}" in lines_of(tool) else []
        return [*own, *section(tool, SHARED_BY_COMMANDS[tool], ".Ss")]
    lines = section(tool, "OPTIONS")
    if not isinstance(command(tool), click.Group):
        return lines
    return lines[: next(k for k, line in enumerate(lines) if line.startswith(".Ss"))]


def described(name: str) -> list[Described]:
    """Return the options that a page lists for a command, in its order."""
    found = []
    for item in items(option_lines(name)):
        assert item.head[0] == "Fl", (
            f"{name}: an entry among the options is not an option: {item.head}"
        )
        spellings, rest = [], item.head
        while rest and rest[0] == "Fl":
            spellings.append(f"-{rest[1]}")
            rest = rest[3:] if rest[2:3] == [","] else rest[2:]
        value = "".join(token for token in rest if token not in INLINE_MACROS)
        found.append(Described(spellings, value, item.body))
    return found


def description_of(name: str, option: click.Option) -> Described:
    for entry in described(name):
        if set(entry.spellings) & set(option.opts):
            return entry
    raise AssertionError(f"{name}: the page does not list {option.opts}")


def spelled(name: str, option: click.Option) -> tuple[list[str], str]:
    """Return an option's spellings and the name of its value, as --help shows them."""
    tokens = help_record(name, option)[0].split()
    spellings = [token.rstrip(",") for token in tokens if token.startswith("-")]
    value = "".join(token for token in tokens if not token.startswith("-") and token != "/")
    return spellings, value.strip("[]") if value.startswith("[") else value


def all_spellings(name: str) -> list[str]:
    return [spelling for option in options(name) for spelling in spelled(name, option)[0]]


# Form


def test_every_tool_has_a_page_and_every_page_a_tool():
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(TOOLS)


@each_tool
def test_sections_are_there_in_the_usual_order(tool):
    titles = [line.removeprefix(".Sh ") for line in lines_of(tool) if line.startswith(".Sh ")]
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)


@each_tool
def test_title_and_name_are_the_tools(tool):
    lines = lines_of(tool)
    assert f".Dt {tool.upper()} 1" in lines
    assert section(tool, "NAME")[0] == f".Nm {tool}"


@each_tool
def test_exit_statuses_are_listed(tool):
    assert [item.head for item in items(section(tool, "EXIT STATUS"))] == [["0"], ["1"], ["2"]]


@each_tool
def test_references_to_other_tools_exist(tool):
    named = re.findall(r"^\.Xr (lnq-\S+) 1", page(tool).read_text(), re.MULTILINE)
    assert named
    assert set(named) <= set(TOOLS) - {tool}


@each_tool
def test_mandoc_finds_nothing_to_complain_about(tool):
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed (Debian: apt-get install mandoc)")
    lint = ["mandoc", "-T", "lint", "-W", "warning", page(tool)]
    assert subprocess.run(lint, capture_output=True, text=True, check=False).stdout == ""


@each_tool
def test_man_renders_the_page_without_complaint(tool):
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed (Debian: apt-get install groff-base)")
    render = ["groff", "-mdoc", "-Tutf8", "-P-cbou", "-ww", page(tool)]
    done = subprocess.run(render, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout


# Options


@each_command
def test_the_page_lists_each_option_once_and_no_other(name):
    listed = [spelling for entry in described(name) for spelling in entry.spellings]
    assert sorted(listed) == sorted(all_spellings(name))


@each_command
def test_spellings_and_values_are_those_of_help(name):
    for option in options(name):
        entry = description_of(name, option)
        assert (entry.spellings, entry.value) == spelled(name, option)
        assert entry.text, f"{name} {entry.spellings} is not explained"


@each_command
def test_defaults_are_those_of_the_tool(name):
    for option in options(name):
        text = description_of(name, option).text
        stated = re.search(r"The default is (.+?)(?:[.,;:](?: |$)|$)", text)
        expected = default_of(option)
        if expected:
            assert stated, f"{name} {option.opts}: the default {expected} is not stated"
            assert [same_form(v) for v in stated[1].split(" and ")] == expected
        elif "[default: " in (option.help or ""):
            assert stated or "ithout it" in text, f"{name} {option.opts}: no word on the default"
        else:
            assert not stated, f"{name} {option.opts} has no default"


def default_of(option: click.Option) -> list[str | float]:
    """Return the values that click uses if an option is not given."""
    default = option.to_info_dict()["default"]
    if option.is_flag:
        if not option.secondary_opts:
            return []
        return [(option.opts if default else option.secondary_opts)[0]]
    if default is None:
        return []
    values = default if isinstance(default, tuple | list) else [default]
    return [same_form(str(value)) for value in values]


def same_form(value: str) -> str | float:
    """Return numbers as such, so that 0 is 0.0."""
    try:
        return float(value)
    except ValueError:
        return value


@each_command
def test_required_options_are_called_so(name):
    for option in options(name):
        if option.required:
            assert "Required." in description_of(name, option).text


@each_command
def test_what_an_option_is_for_or_needs_is_said(name):
    for option in options(name):
        if not isinstance(option, Option):
            continue
        text = description_of(name, option).text
        for rule in (*option.only_with, *option.needs):
            assert any(said(condition, text) for condition in rule.conditions), (
                f"{name} {option.opts}: nothing of {rule.conditions}"
            )


def said(condition: str, text: str) -> bool:
    """Tell whether a text names the option of a condition, or one of its values."""
    spelling, *words = condition.replace("|", " ").split()
    return spelling in text or any(word in text.lower() for word in words)


@each_tool
def test_options_named_anywhere_on_the_page_exist(tool):
    known = {s for name in COMMANDS if name.split()[0] == tool for s in all_spellings(name)}
    for line in lines_of(tool):
        assert set(options_named(line)) <= known, f"{tool}: {line}"


def options_named(line: str) -> list[str]:
    """Return the options that follow Fl in a line, of which one macro may have several."""
    found, follows = [], False
    for token in line.split():
        if token in INLINE_MACROS or token.startswith("."):
            follows = token.endswith("Fl")
        elif follows and re.fullmatch(r"-[a-z-]+|\w", token):
            found.append(f"-{token}")
    return found


def test_shared_options_are_described_in_the_same_words():
    bodies: dict[tuple[str, str], dict[str, str]] = {}
    for name in COMMANDS:
        if not any(isinstance(parameter, click.Argument) for parameter in command(name).params):
            continue  # lnq-train and lnq-phantom take no list of images, and say it otherwise
        for option in options(name):
            if type(option).__name__ == "SharedOption":
                text = description_of(name, option).text
                bodies.setdefault(help_record(name, option), {})[name] = text
    assert len(bodies) > 10
    for record, by_tool in bodies.items():
        assert len(set(by_tool.values())) == 1, f"{record[0]} differs between {', '.join(by_tool)}"


# Tables and definitions


def variables(lines: list[str]) -> list[str]:
    """Return the columns that a list describes: what follows Va in the heads."""
    heads = [item.head for item in items(lines)]
    return [b for head in heads for a, b in pairwise(head) if a == "Va"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = make_cohort(tmp_path_factory.mktemp("cohort"))
    (folder / "a.tsv").write_text("case\tdice\tassd_mm\nplain\t0.5\t2\n")
    write_ct(folder / "dicom")
    return folder


TABLES = {
    "lnq-check": ("TABLE", "label"),
    "lnq-compare": ("Columns of summary", "A=a.tsv --ci 0.9"),
    "lnq-compare --table pairs": ("Columns of pairs", "A=a.tsv B=a.tsv --table pairs --ci 0.9"),
    "lnq-compare --table ranking": ("Columns of ranking", "A=a.tsv B=a.tsv --table ranking"),
    "lnq-compare --table power": (
        "Columns of power",
        "A=a.tsv B=a.tsv --table power --difference 1",
    ),
    "lnq-crop --boxes": (
        "TABLE",
        "ann/plain.nii.gz --label --lungs lungs --keep truth -O out --boxes -",
    ),
    "lnq-weaklabel --table": (
        "TABLE",
        "ann/plain.nii.gz --strategy mask --like ct -O out --table -",
    ),
    "lnq-pseudolabel --table": (
        "TABLE",
        "label/plain.nii.gz --anatomy ts --classes v2 -O out --table -",
    ),
    "lnq-pseudolabel --by-structure": (
        "TABLE BY STRUCTURE",
        "label/plain.nii.gz --anatomy ts --classes v2 -O out --table - --by-structure",
    ),
    "lnq-dicom images --table": ("TABLE", "images dicom --table -"),
    "lnq-filter-diameter --list": (
        "TABLE",
        "ann/plain.nii.gz --list --ct ct --anatomy ts --classes v2",
    ),
    "lnq-metrics": ("Columns of the table", "ann/plain.nii.gz --reference truth --missing drop"),
    "lnq-metrics --lesions": (
        "Columns of --lesions",
        "ann/plain.nii.gz --reference truth --missing drop --lesions --ct ct --anatomy ts"
        " --classes v2",
    ),
    "lnq-metrics --by-diameter": (
        "Columns of --by-diameter",
        "ann/plain.nii.gz --reference truth --missing drop --by-diameter 2.5",
    ),
    "lnq-metrics --detection": (
        "Columns of --detection",
        "ann/plain.nii.gz --reference truth --missing drop --detection",
    ),
    "lnq-metrics --detection --summary": (
        "Columns of --detection --summary",
        "ann/plain.nii.gz --reference truth --missing drop --detection --summary",
    ),
    "lnq-metrics --summary": (
        "Columns of --summary",
        "ann/plain.nii.gz --reference truth --missing drop --summary",
    ),
    "lnq-phantom --table": ("TABLE", "-n 1 -O out --table -"),
    "lnq-stats --table data-sets": ("Columns of data-sets", "label/plain.nii.gz"),
    "lnq-stats --table voxels": ("Columns of voxels", "label/plain.nii.gz --table voxels"),
    "lnq-stats --table diameters": (
        "Columns of diameters",
        "label/plain.nii.gz --table diameters",
    ),
    "lnq-stats --table cases": ("Columns of cases", "label/plain.nii.gz --table cases"),
    "lnq-threshold": ("Columns of the table", "probability/plain.nii.gz --reference truth"),
    "lnq-threshold --cases": (
        "Columns of --cases",
        "probability/plain.nii.gz --reference truth --cases",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_those_of_the_table(name, cohort, tmp_path):
    tool = name.split()[0]
    title, line = TABLES[name]
    inside = [str(tmp_path / "out") if word == "out" else word for word in line.split()]
    header = succeed(tool, *inside, cwd=cohort).lines[0]
    level = ".Sh" if title.isupper() else ".Ss"
    assert sorted(variables(section(tool, title, level))) == sorted(header.split("\t"))


def test_the_columns_of_presets_are_those_of_the_package():
    presets = items(section("lnq-metrics", "Presets", ".Ss"))
    assert [preset.head for preset in presets] == [["Cm", name] for name in PRESETS]
    for entry, preset in zip(presets, PRESETS.values(), strict=True):
        assert f"--edge {preset.edge}" in plain(entry.body)
        lines = [line for line in entry.body if line.startswith(".It Va ")]
        cells = [line.removeprefix(".It ").split(" Ta ") for line in lines]
        listed = {cell[0].removeprefix("Va "): cell[2].removeprefix("Va ") for cell in cells}
        assert (listed.pop("nsd_1mm", None) is not None) == preset.surface_dice
        same = {
            theirs: "\\(en" if ours == "asd_mm" else ours for theirs, ours in preset.columns.items()
        }
        assert listed == same


def test_every_diameter_is_defined():
    defined = items(section("lnq-filter-diameter", "DEFINITIONS"))
    assert [item.head for item in defined] == [["Cm", metric] for metric in METRICS]


# Examples


def examples(tool: str) -> list[str]:
    """Return the literal blocks of EXAMPLES as a shell would read them."""
    text = "\n".join(section(tool, "EXAMPLES"))
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)\n\.Ed$", text, re.DOTALL | re.MULTILINE)
    return [block.replace("\\e", "\\") for block in blocks]


def calls(block: str) -> list[list[str]]:
    """Return the calls of our tools in some lines of shell, without redirections."""
    lexer = shlex.shlex(
        re.sub(r"\$\w+", "0", block.replace("\\\n", "")), posix=True, punctuation_chars="|;&<>\n"
    )
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    found: list[list[str]] = [[]]
    redirected = False
    for token in lexer:
        if token[0] in "<>":
            redirected = True
        elif set(token) <= set("|;&\n"):
            found.append([])
        elif redirected:
            redirected = False
        else:
            found[-1].append(token)
    starts = [[k for k, word in enumerate(call) if re.match("lnq(-|$)", word)] for call in found]
    return [call[at[0] :] for call, at in zip(found, starts, strict=True) if at]


@each_tool
def test_examples_call_tools_that_exist_with_options_that_fit(tool):
    seen = [call for block in examples(tool) for call in calls(block)]
    assert tool in [call[0] for call in seen]
    for name, *arguments in seen:
        assert name in TOOLS
        try:
            parse(name, arguments)
        except click.UsageError as error:
            pytest.fail(f"{name} {shlex.join(arguments)}: {error.format_message()}")


@each_tool
def test_examples_fit_on_a_terminal(tool):
    lines = [line for block in examples(tool) for line in block.splitlines()]
    assert [line for line in lines if len(line) > WIDEST_EXAMPLE] == []


def test_calls_are_found_in_pipes_loops_and_redirections():
    block = """find . -print0 | xargs -0 lnq-crop -O "a b" < x
for i in 1; do lnq-infer \\
    -m $i; done > y"""
    assert calls(block) == [["lnq-crop", "-O", "a b"], ["lnq-infer", "-m", "0"]]


def test_the_keys_of_a_model_are_those_that_the_code_tells_apart():
    from lnqtools.nnunet.model_keys import CONFIGURATION_KEYS, DATASET_KEYS, PLANS_KEYS

    told = {
        key: " ".join(item.head[1:])
        for item in items(section("lnq-infer", "Keys of a model", ".Ss"))
        for line in item.body
        for key in line.split()[1:]
        if line.startswith(".Va ") and key not in (",", ".", ":")
    }
    assert told == PLANS_KEYS | CONFIGURATION_KEYS | DATASET_KEYS
