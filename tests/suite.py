"""Which tools there are, as setup.cfg says."""

from __future__ import annotations

import configparser
from importlib import import_module

import click

from tests.conftest import ROOT


def _console_scripts() -> dict[str, str]:
    """Return tool → module for each console script."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    pairs = [line.split(" = ") for line in lines if line]
    return {tool: target.partition(":")[0] for tool, target in pairs}


MODULES = _console_scripts()
TOOLS = tuple(MODULES)


def command(tool: str) -> click.Command:
    """Return a tool's click command."""
    return import_module(MODULES[tool]).main


def options(tool: str) -> list[click.Option]:
    """Return a tool's options, --help too."""
    found = command(tool).get_params(_context(tool))
    return [parameter for parameter in found if isinstance(parameter, click.Option)]


def help_record(tool: str, option: click.Option) -> tuple[str, str]:
    """Return what --help says about an option: how it is spelled, and the text."""
    record = option.get_help_record(_context(tool))
    assert record is not None, f"{tool} hides {option.opts}"
    return record


def _context(tool: str) -> click.Context:
    return click.Context(command(tool), **command(tool).context_settings)
