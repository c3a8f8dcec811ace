"""What an image says about its making, and how that of another run differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lnqtools import __version__

Contents = dict[str, dict[str, str]]
"""Digests of what a case is made from: `INPUT` or the name of an option → place → digest."""
INPUT = "input"
"""What the record of an image calls the content of its input."""


@dataclass(frozen=True)
class Making:
    """What makes the images of a run what they are.

    Parameters
    ----------
    tool : str
        Its name.
    options : mapping
        The options that have a part in the result; recorded, and compared by -s.
    at_default : frozenset of str
        Those that nobody gave. An image whose record does not know one was made with it so.
    made_with : mapping
        Versions of what else had a part; recorded, but not compared.
    contents : dict
        Digests of what every case is made from, as a model; recorded, and compared by -s.
    """

    tool: str
    options: Mapping[str, Any] = field(default_factory=dict)
    at_default: frozenset[str] = frozenset()
    made_with: Mapping[str, Any] = field(default_factory=dict)
    contents: Contents = field(default_factory=dict)

    def adding(
        self,
        options: Mapping[str, Any] | None = None,
        made_with: Mapping[str, Any] | None = None,
        contents: Contents | None = None,
    ) -> Making:
        """Return this with more of each."""
        return replace(
            self,
            options={**self.options, **(options or {})},
            made_with={**self.made_with, **(made_with or {})},
            contents={**self.contents, **(contents or {})},
        )

    def without(self, option: str) -> Making:
        """Return this without an option."""
        return replace(self, options={n: v for n, v in self.options.items() if n != option})

    def record(self, seen: Contents, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an image says: all of this, what its case was made from, and its own facts.

        The facts are of this image alone, and -s does not compare them.
        """
        digests = {name: list(of.values()) for name, of in (self.contents | seen).items()}
        made_from = {name: of if of[1:] else of[0] for name, of in digests.items()}
        return {
            "tool": self.tool,
            "version": __version__,
            "options": dict(self.options),
            **({"made_with": dict(self.made_with)} if self.made_with else {}),
            **({"made_from": made_from} if made_from else {}),
            **facts,
        }

    def difference(self, record: dict[str, Any] | None) -> str | None:
        """Say how the tool or the options of a record differ, or return None."""
        if record is None:
            return "does not say how it was made"
        if record.get("tool") != self.tool:
            return f"was made by {record.get('tool')}"
        then, now = record.get("options", {}), self.options
        if not record.get("made_from"):  # of an older version, which may have had others
            known = now.keys() | self.at_default
            then = {name: then[name] for name in then.keys() & known}
        changed = [
            f"{option_of(name)} {_shown(then.get(name))}, now {_shown(now.get(name))}"
            for name in sorted({*then, *now})
            if then.get(name) != now.get(name) and (name in then or name not in self.at_default)
        ]
        return f"was made with {'; '.join(changed)}" if changed else None

    def places(self, name: str) -> list[str]:
        """Return where what a record calls by a name, and which is not the input, is now."""
        if name in self.contents:
            return list(self.contents[name])
        value = self.options.get(name)
        places = value if isinstance(value, list) else [value]
        return [place for place in places if isinstance(place, str)]


def option_of(parameter: str) -> str:
    """Return the option of a parameter: ``--keep-anatomy`` for ``keep_anatomy``."""
    return f"--{parameter.replace('_', '-')}"


def parameter_of(option: str) -> str:
    """Return what an option is called in records: ``keep_anatomy`` for ``--keep-anatomy``."""
    return option.lstrip("-").replace("-", "_")


def _shown(value: Any) -> str:
    """Return an option's recorded value as a person would write it."""
    if isinstance(value, list):
        return ",".join(_shown(v) for v in value) or "unset"
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None else str(value)
