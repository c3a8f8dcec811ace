"""What an option asks of the others: said where it is declared, checked and worded here.

A condition is written as on the command line: ``--like`` is met if that is given, ``--table
pairs|pvalues`` if --table is one of these, by default too. What is written in capitals, as in
``--lungs FILE|DIR``, stands for any value that the option has no word for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import click

Conditions = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""One condition or several; or, by value of the option, those of that value."""


class Rule(NamedTuple):
    """Conditions of an option, or of one value of it."""

    conditions: tuple[str, ...]
    value: str | None = None


class Option(click.Option):
    """An option that may depend on others.

    Parameters
    ----------
    not_with : str, sequence of str, or mapping
        Conditions none of which may be met.
    only_with : str, sequence of str, or mapping
        Conditions one of which must be met, because else the option would change nothing.
    needs : str, sequence of str, or mapping
        Conditions one of which must be met, because else the option cannot do what it is for.

    A mapping has conditions of some of the option's values.
    """

    def __init__(
        self,
        *args: Any,
        not_with: Conditions = (),
        only_with: Conditions = (),
        needs: Conditions = (),
        **attributes: Any,
    ):
        super().__init__(*args, **attributes)
        self.not_with, self.only_with = _rules(not_with), _rules(only_with)
        self.needs = _rules(needs)


def _rules(conditions: Conditions) -> tuple[Rule, ...]:
    if isinstance(conditions, Mapping):
        return tuple(Rule(_several(of), value) for value, of in conditions.items())
    return (Rule(_several(conditions)),) if conditions else ()


def _several(conditions: str | Sequence[str]) -> tuple[str, ...]:
    return (conditions,) if isinstance(conditions, str) else tuple(conditions)


class Declared:
    """The declaration of an option: a decorator, and the pattern of others."""

    def __init__(self, *names: str, **attributes: Any):
        self.names, self.attributes = names, attributes

    def __call__(self, function: Callable) -> Callable:
        """Give a command the option."""
        return click.option(*self.names, **self.attributes)(function)

    def but(self, **attributes: Any) -> Declared:
        """Return the same option with other attributes, as one tool needs them."""
        return Declared(*self.names, **{**self.attributes, **attributes})


option = partial(Declared, cls=Option)


def check_rules(context: click.Context) -> None:
    """Refuse options that contradict each other, or that have no effect.

    Raises
    ------
    click.UsageError
        If a rule is broken; it names the first: of what excludes each other, then of what else
        would change nothing, then of what lacks another option.
    """
    given = [
        parameter
        for parameter in context.command.params
        if isinstance(parameter, Option) and _is_given(context, parameter)
    ]
    for own in given:
        for rule, said in _in_force(context, own, own.not_with):
            for condition in rule.conditions:
                if _is_met(context, condition):
                    other = _as_given(context, condition)
                    raise click.UsageError(f"{said} and {other} exclude each other")
    for rules, verb in ((lambda own: own.only_with, "is for"), (lambda own: own.needs, "needs")):
        for own in given:
            for rule, said in _in_force(context, own, rules(own)):
                if not any(_is_met(context, condition) for condition in rule.conditions):
                    raise click.UsageError(f"{said} {verb} {_in_words(rule.conditions)}")


def _is_given(context: click.Context, parameter: click.Parameter) -> bool:
    """Tell whether the command line names a parameter, with its default or not."""
    source = context.get_parameter_source(parameter.name or "")
    return source is click.core.ParameterSource.COMMANDLINE


def named(command: click.Command, condition: str) -> click.Parameter:
    """Return the option of a command that a condition is about."""
    spelling = condition.split()[0]
    return next(parameter for parameter in command.params if spelling in parameter.opts)


def _in_force(
    context: click.Context, own: Option, rules: Sequence[Rule]
) -> Iterator[tuple[Rule, str]]:
    """Yield the rules that hold for an option's value, and what to call the option."""
    value = str(context.params[own.name or ""])
    for rule in rules:
        if rule.value in (None, value):
            yield rule, own.opts[0] if rule.value is None else f"{own.opts[0]} {value}"


def _is_met(context: click.Context, condition: str) -> bool:
    other = named(context.command, condition)
    _, _, words = condition.partition(" ")
    if not words:
        return _is_given(context, other)
    value = context.params[other.name or ""]
    if not words.isupper():
        return str(value) in words.split("|")
    return value is not None and value not in (other.metavar or "").split("|")


def _as_given(context: click.Context, condition: str) -> str:
    """Return a condition that is met with the value that meets it."""
    spelling, _, words = condition.partition(" ")
    other = named(context.command, condition)
    return f"{spelling} {context.params[other.name or '']}" if words else spelling


def _in_words(conditions: Sequence[str]) -> str:
    *others, last = conditions
    return f"{', '.join(others)} or {last}" if others else last
