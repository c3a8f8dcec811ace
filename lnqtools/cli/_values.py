"""Types of values on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from lnqtools.errors import LnqError

PATH = click.Path(readable=False)
"""A path as it is given: whoever reads it says what is wrong with it, and the others are done."""


class Companion(click.Path):
    """Where companions are, a file or a directory; standard input would serve one case only."""

    def convert(self, value, param, ctx):
        """Take a path."""
        if value == "-":
            self.fail("'-' is not a file or a directory", param, ctx)
        return super().convert(value, param, ctx)


class Formed(click.ParamType):
    """Values of a form, which stands for them in the help; a default may be as they are parsed."""

    form = ""

    def get_metavar(self, param, ctx=None) -> str:
        """Return the form."""
        return self.form

    def convert(self, value, param, ctx):
        """Parse what is text."""
        return self.parse(value, param, ctx) if isinstance(value, str) else value

    def parse(self, value: str, param, ctx):
        """Return what a text means."""
        raise NotImplementedError


class Pair(Formed):
    """``NAME=VALUE``: both, parted at the first =; of ``[NAME=]FILE`` the name may be empty.

    An argument of the latter form with a slash before the first = is a FILE.
    """

    name = "pair"

    def __init__(self, form: str, may_be_empty: bool = False):
        self.form, self.may_be_empty = form, may_be_empty

    def parse(self, value: str, param, ctx):
        """Parse ``stratum=all``."""
        name, sign, rest = value.partition("=")
        if self.form.startswith("[") and (not sign or "/" in name):
            return "", value
        if not (name.strip() and sign and (rest or self.may_be_empty)):
            self.fail(f"{value!r} is not {self.form}", param, ctx)
        return name, rest


Pairs = tuple[tuple[str, str], ...]
"""Several values NAME=FILE, as an option hands them on."""


class Listed(Formed):
    """Words with commas between, each taken once."""

    name = "list"

    def __init__(self, form: str, what: str, fits: Callable[[str], object] = bool):
        self.form, self.what, self.fits = form, what, fits

    def parse(self, value: str, param, ctx):
        """Parse ``0,1,2``."""
        words = tuple(dict.fromkeys(word.strip() for word in value.split(",")))
        if not all(map(self.fits, words)):
            self.fail(f"{value!r} is not a list {self.what}", param, ctx)
        return words


class ZYX(tuple):
    """Three numbers in the arrays' order, given and recorded as x, y, z."""


class XYZ(Formed):
    """One number, or three for x, y, z; handed on as (z, y, x).

    The order is turned round here and nowhere else.
    """

    name = "xyz"
    form = "X,Y,Z"

    def __init__(self, kind: type = float, minimum: float | None = None, three: bool = False):
        self.kind, self.minimum, self.three = kind, minimum, three

    def parse(self, value: str, param, ctx):
        """Parse ``5`` or ``5,5,3``."""
        try:
            numbers = [self.kind(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not one number or three with commas between", param, ctx)
        if len(numbers) == 1 and not self.three:
            numbers *= 3
        if len(numbers) != 3:
            self.fail(f"{value!r} must be three numbers x,y,z", param, ctx)
        if self.minimum is not None and not all(self.minimum <= n < float("inf") for n in numbers):
            self.fail(f"{value!r} must not be below {self.minimum:g}", param, ctx)
        return ZYX(reversed(numbers))


class FiniteRange(click.FloatRange):
    """A real number in a range; click alone takes NaN for a member of any."""

    def convert(self, value, param, ctx):
        """Parse a number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Return the range for the help, which has none to show where there are no bounds."""
        return "" if self.min is None is self.max else super()._describe_range()


HU = FiniteRange(-32768, 32767)


class WordOr(Formed):
    """One of a few words, handed on as what it stands for, or a number of some kind."""

    name = "word or number"

    def __init__(self, words: Mapping[str, object], unit: str, kind: FiniteRange, what: str):
        self.words, self.kind, self.what = words, kind, what
        self.form = "|".join((*words, unit))

    def parse(self, value: str, param, ctx):
        """Parse ``worst`` or ``115.27``."""
        if value in self.words:
            return self.words[value]
        try:
            return self.kind.convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither {', '.join(self.words)} nor {self.what}", param, ctx)


def empty_policy(words: Sequence[str]) -> WordOr:
    """Return the type of what is done with values that are undefined: a word, or a number of mm."""
    return WordOr({word: word for word in words}, "MM", FiniteRange(min=0), "a number ≥ 0")


class Window(Formed):
    """Two CT numbers: what is black and what is white."""

    name = "window"
    form = "LOW,HIGH"

    def parse(self, value: str, param, ctx):
        """Parse ``-160,240``."""
        try:
            low, high = (HU.convert(part, param, ctx) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not two numbers with a comma between", param, ctx)
        if low >= high:
            self.fail(f"{value!r}: the first number must be below the second", param, ctx)
        return low, high


class LabelValues(Formed):
    """Values of a mask: ``1,3`` or ``1,5-8``, in order; ``none`` where that is allowed."""

    name = "values"
    most = 65535
    highest = 2**32 - 1

    def __init__(self, or_none: bool = False):
        self.or_none = or_none
        self.form = "N,...|none" if or_none else "N,..."

    def parse(self, value: str, param, ctx):
        """Parse ``1,5-8``."""
        if self.or_none and value == "none":
            return ()
        chosen: set[int] = set()
        for part in value.split(","):
            first, _, last = part.partition("-")
            if not (first.isdecimal() and (last or first).isdecimal()):
                self._fail_to_read(value, param, ctx)
            low, high = int(first), int(last or first)
            if not (1 <= low <= high <= self.highest and not part.endswith("-")):
                self._fail_to_read(value, param, ctx)
            if high - low >= self.most:
                self.fail(f"{value!r} are more than {self.most} values", param, ctx)
            chosen.update(range(low, high + 1))
        return tuple(sorted(chosen))

    def _fail_to_read(self, value: str, param, ctx) -> None:
        also = ", nor none" if self.or_none else ""
        self.fail(f"{value!r} is not a list like 1,3 or 1-8{also}", param, ctx)


class Orientation(Formed):
    """Three letters that say to where the axes x, y and z run, or one of a few words."""

    name = "orientation"

    def __init__(self, *words: str):
        self.words = words
        self.form = "|".join((*words, "CODE"))

    def parse(self, value: str, param, ctx):
        """Parse ``LPS``."""
        if value in self.words:
            return value
        from lnqtools.images.orientation import check_code

        try:
            return check_code(value)
        except LnqError as error:
            also = "".join(f", or {word}" for word in self.words).replace(",", ";", 1)
            self.fail(f"{error}{also}", param, ctx)


class Shard(Formed):
    """``I/N``: the part of the sorted inputs that this process takes."""

    name = "shard"
    form = "I/N"

    def parse(self, value: str, param, ctx):
        """Parse ``0/8``."""
        part, _, count = value.partition("/")
        if not (part.isdecimal() and count.isdecimal() and int(part) < int(count)):
            self.fail(f"{value!r} is not I/N with 0 ≤ I < N", param, ctx)
        return int(part), int(count)


def parse_structures(context, parameter, value: str) -> str:
    """Put the lines of each ``@FILE`` in its place; ``#`` begins a comment."""
    parts: list[str] = []
    for part in (p.strip() for p in value.split(",")):
        if not part.startswith("@"):
            parts.append(part)
            continue
        try:
            lines = Path(part[1:]).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"cannot read {part}: {error}") from None
        parts += [line.split("#")[0].strip() for line in lines]
    return ",".join(part for part in parts if part)
