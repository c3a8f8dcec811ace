"""lnq: which tools there are, what they find on this machine, and any of them by its short name."""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import click

from lnqtools import __version__
from lnqtools.choices import SHELLS
from lnqtools.cli._rules import option
from lnqtools.cli._tool import Tool, command, emit, module_of

TOOLS = {
    "lnq-crop": "crop CTs to the lungs, or put images onto another grid",
    "lnq-anatomy": "segment the anatomy of CTs with TotalSegmentator",
    "lnq-weaklabel": "turn incomplete lymph node annotations into training labels",
    "lnq-pseudolabel": "fill unknown voxels of training labels from anatomy and teachers",
    "lnq-train": "train an nnU-Net model on labels with unknown voxels",
    "lnq-infer": "segment lymph nodes in CTs with a trained nnU-Net model",
    "lnq-model": "list, fetch and verify published models, and describe your own",
    "lnq-filter-diameter": "remove components whose short diameter is too small",
    "lnq-metrics": "measure how well predicted masks agree with references",
    "lnq-threshold": "sweep probability threshold and diameter filter over validation cases",
    "lnq-stats": "describe data sets of labels: nodes, labeled voxels, diameters",
    "lnq-compare": "compare models by their metrics, case by case",
    "lnq-plot": "draw the figures of a paper from tables and images",
    "lnq-report": "make an HTML page to look at predictions, or labels, case by case",
    "lnq-dicom": "turn DICOM into images and masks, and masks into DICOM",
    "lnq-check": "find files that are no longer what their records say",
    "lnq-phantom": "make synthetic chest CTs with lymph nodes",
}
"""Each tool, in the order of the work, and its line as the man page has it."""


class Passing(Tool):
    """A tool whose first argument is another tool, to which all that follows belongs."""

    def make_context(self, info_name, args, parent=None, **extra):
        """Read the options that stand before the other tool's name."""
        extra |= {"allow_interspersed_args": False}
        return super().make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx, formatter):
        """Name the tools after the options."""
        with formatter.section("Tools"):
            formatter.write_dl(list(TOOLS.items()))
        super().format_epilog(ctx, formatter)


@command("lnq", Passing, example="lnq crop ct/*.nii.gz -O cropped")
@option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write versions, extras, devices, recipes and structures as JSON.",
)
@option(
    "--completion",
    type=click.Choice(SHELLS),
    help="Write what makes a shell complete the tools' options.",
)
@click.argument("tool", required=False, metavar="[TOOL")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...]")
def main(as_json: bool, completion: str | None, tool: str | None, arguments: tuple[str, ...]):
    """List the tools, or run one: ``lnq crop`` is lnq-crop."""
    if tool is not None and (as_json or completion):
        raise click.UsageError(f"--json and --completion are not for {tool}")
    if tool is not None:
        run(tool, list(arguments))
    elif completion:
        emit("\n".join(completion_of(completion, name) for name in ("lnq", *TOOLS)), b"")
    elif as_json:
        emit(json.dumps(machine(), indent=2))
    else:
        width = max(map(len, TOOLS))
        emit("\n".join(f"{name:{width}}  {line}" for name, line in TOOLS.items()))


def run(tool: str, arguments: list[str]) -> None:
    """Run a tool, named with its ``lnq-`` or without, and end as it ends."""
    name = tool if tool.startswith("lnq-") else f"lnq-{tool}"
    if name not in TOOLS:
        raise click.UsageError(f"there is no tool {tool}; lnq alone lists them")
    module = import_module(module_of(name))
    sys.argv = [name, *arguments]
    module.main(arguments)


def completion_of(shell: str, tool: str) -> str:
    """Return what makes a shell complete the options of a tool."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise KeyError(shell)
    variable = f"_{tool.replace('-', '_').upper()}_COMPLETE"
    return made(click.Command(tool), {}, tool, variable).source().strip() + "\n"


def machine() -> dict[str, Any]:
    """Return what a script may want to know of this installation."""
    from lnqtools.anatomy.maps import class_names
    from lnqtools.nnunet.environment import device_names
    from lnqtools.nnunet.recipes import RECIPES

    extras = packages_by_extra()
    versions = {name: version_of(name) for names in extras.values() for name in names}
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "tools": TOOLS,
        "packages": dict(sorted(versions.items())),
        "extras": {
            extra: all(versions[name] for name in names) for extra, names in extras.items() if extra
        },
        "devices": device_names() if versions.get("torch") else [],
        "recipes": RECIPES,
        "structures": {name: list(class_names(name).values()) for name in ("v1", "v2")},
    }


def packages_by_extra() -> dict[str, list[str]]:
    """Return which packages each extra of ``all`` asks for; "" are those of every tool."""
    try:
        asked = requires("lnq-tools") or []
    except PackageNotFoundError:  # a checkout in which nothing was installed
        return {}
    found: dict[str, list[str]] = {}
    for text in asked:
        name, extra = re.match(r"[\w.-]+", text), re.search(r"extra == ['\"]([\w-]+)", text)
        assert name is not None
        found.setdefault(extra[1] if extra else "", []).append(name[0])
    of_users = [re.search(r"\[(.*)\].*extra == .all", text) for text in asked]
    wanted = {""}.union(*(match[1].split(",") for match in of_users if match))
    return {extra: names for extra, names in found.items() if extra in wanted}


def version_of(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
