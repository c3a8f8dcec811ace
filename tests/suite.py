"""Which tools there are, and what they need, as setup.cfg says."""

from __future__ import annotations

import configparser
from importlib import import_module

import click

from tests.conftest import ROOT

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def extra(name: str) -> list[str]:
    """Return what an extra brings; an sdist's setup.cfg has other blanks than the checkout's."""
    return SETUP["options.extras_require"][name].split()


def _console_scripts() -> dict[str, str]:
    """Return tool → module for each console script."""
    lines = SETUP["options.entry_points"]["console_scripts"].split("\n")
    pairs = [line.split(" = ") for line in lines if line]
    return {tool: target.partition(":")[0] for tool, target in pairs}


MODULES = _console_scripts()
TOOLS = tuple(MODULES)


def command(name: str) -> click.Command:
    """Return the click command of a tool, or of a command of it: ``lnq-plot scores``."""
    tool, _, inner = name.partition(" ")
    found = import_module(MODULES[tool]).main
    return found.commands[inner] if inner else found


def _with_commands(tool: str) -> list[str]:
    """Return a tool, and its commands if it is a group of them."""
    return [tool, *(f"{tool} {inner}" for inner in getattr(command(tool), "commands", ()))]


COMMANDS = tuple(name for tool in TOOLS for name in _with_commands(tool))
"""All that has a --help: the tools, and the commands of those that are groups."""


def options(name: str) -> list[click.Option]:
    """Return a command's options, --help too."""
    found = command(name).get_params(_context(name))
    return [parameter for parameter in found if isinstance(parameter, click.Option)]


def help_record(name: str, option: click.Option) -> tuple[str, str]:
    """Return what --help says about an option: how it is spelled, and the text."""
    record = option.get_help_record(_context(name))
    assert record is not None, f"{name} hides {option.opts}"
    return record


def parse(tool: str, arguments: list[str]) -> None:
    """Parse a command line, that of a group's command too; raise click.UsageError if it is bad."""
    found, outer = command(tool), _context(tool)
    if isinstance(found, click.Group):
        inner_name, inner, rest = found.resolve_command(outer, arguments)
        assert inner is not None
        inner.make_context(inner_name, rest, parent=outer)
    else:
        found.make_context(tool, arguments)


def _context(name: str) -> click.Context:
    tool, _, inner = name.partition(" ")
    whole = click.Context(command(tool), info_name=tool, **command(tool).context_settings)
    return click.Context(command(name), whole, info_name=inner) if inner else whole
