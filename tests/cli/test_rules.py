"""What options ask of each other: how it is checked, worded, and written on the man pages."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from lnqtools.cli._rules import Option, Rule, named, option
from lnqtools.cli._tool import command
from tests.suite import COMMANDS
from tests.suite import command as command_of
from tests.suite import options as options_of


@command("lnq-made-up", example="lnq-made-up")
@option("--strategy", type=click.Choice(["mask", "coat"]), default="mask")
@option("--margin", type=int, default=1, only_with="--strategy coat", not_with="--thick")
@option("--thick", is_flag=True, only_with=("--strategy coat", "--like"))
@option("--lungs", metavar="hu|none|FILE|DIR", default="hu", needs={"none": "--like"})
@option("--like", metavar="FILE", not_with=("--label", "--lungs hu"))
@option("--label", is_flag=True, needs=("--lungs FILE|DIR", "--lungs none"))
@option("--fill", type=int, not_with={"2": "--strategy mask|coat"})
def made_up(**parameters) -> None:
    """Do nothing."""


def refusal(line: str) -> str:
    """Return what is wrong with a command line; nothing if it may be."""
    try:
        made_up.make_context("lnq-made-up", line.split())
    except click.UsageError as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", ""),
        ("--margin 1", "--margin is for --strategy coat"),  # its default is no less idle
        ("--margin 2 --strategy mask", "--margin is for --strategy coat"),
        ("--margin 2 --strategy coat", ""),
        ("--thick", "--thick is for --strategy coat or --like"),
        ("--thick --like a --lungs b", ""),
        ("--thick --margin 1", "--margin and --thick exclude each other"),  # before what is idle
        ("--lungs none", "--lungs none needs --like"),
        ("--lungs none --like a", ""),
        ("--lungs a", ""),
        ("--like a", "--like and --lungs hu exclude each other"),  # which is the default
        ("--like a --label --lungs b", "--like and --label exclude each other"),
        ("--label", "--label needs --lungs FILE|DIR or --lungs none"),
        ("--label --lungs hu", "--label needs --lungs FILE|DIR or --lungs none"),
        ("--label --lungs folder", ""),
        ("--fill 1", ""),
        ("--fill 2", "--fill 2 and --strategy mask exclude each other"),
        ("--fill 2 --strategy coat", "--fill 2 and --strategy coat exclude each other"),
    ],
)
def test_one_phrase_for_each_kind_of_rule(line, message):
    assert refusal(line) == message


def test_help_asks_nothing_of_options():
    with pytest.raises(click.exceptions.Exit):
        made_up.make_context("lnq-made-up", ["--margin", "1", "--help"])


def test_a_line_that_is_being_completed_may_be_wrong():
    made_up.make_context("lnq-made-up", ["--margin", "1"], resilient_parsing=True)


def test_a_shared_option_may_differ_in_one_tool():
    margin = option("--margin", default=1, only_with="--a")
    other = margin.but(default=2, only_with=())
    assert (margin.attributes["default"], margin.attributes["only_with"]) == (1, "--a")
    assert (other.names, other.attributes["default"], other.attributes["only_with"]) == (
        *(("--margin",), 2),
        (),
    )


# The tools


def rules_of(name: str) -> Iterator[tuple[Option, Rule]]:
    for own in options_of(name):
        if isinstance(own, Option):
            for rule in (*own.not_with, *own.only_with, *own.needs):
                yield own, rule


@pytest.mark.parametrize("name", COMMANDS)
def test_rules_are_about_options_and_values_that_there_are(name):
    for own, rule in rules_of(name):
        if rule.value is not None:
            assert takes(own, rule.value)
        for condition in rule.conditions:
            other = named(command_of(name), condition)
            assert other is not own
            for word in filter(None, condition.partition(" ")[2].split("|")):
                assert takes(other, word), f"{name} {own.opts}: {condition}"


def takes(parameter: click.Parameter, word: str) -> bool:
    """Tell whether an option has a word, or says with it what else it takes."""
    if isinstance(parameter.type, click.Choice):
        return word in parameter.type.choices
    return word in (parameter.metavar or "").split("|") or word == "-"


def test_there_are_rules():
    assert sum(1 for name in COMMANDS for _ in rules_of(name)) > 60
