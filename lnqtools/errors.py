"""Errors whose message is written for the person at the shell."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_NAMED_CASES = 10
"""Cases that a message names before it only counts."""


class LnqError(Exception):
    """An input or a step that failed.

    The message is one sentence that says what is wrong and what to do; it does not name the
    file, because whoever handles the file puts its path in front.
    """


class MissingExtraError(LnqError):
    """A tool needs packages that the light installation does not bring.

    Parameters
    ----------
    extra : str
        Name of the extra in ``setup.cfg``.
    missing : str
        Name of the module that could not be imported.
    """

    def __init__(self, extra: str, missing: str):
        super().__init__(
            f"{missing} is not installed; pip install '.[{extra}]' in the checkout of lnqtools "
            "brings it"
        )


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """Turn an error of the system within the block into LnqError: ``WHAT: No space left``."""
    try:
        yield
    except OSError as error:
        raise LnqError(f"{what}: {error.strerror or error}") from None


def require_choice(what: str, value: object, choices: Sequence[object]) -> None:
    """Raise LnqError unless a value is one of a few."""
    if value not in choices:
        raise LnqError(f"{what} {value!r} is not one of {', '.join(map(str, choices))}")


def listed(cases: Sequence[str]) -> str:
    """Name some cases and count the others."""
    more = len(cases) - _NAMED_CASES
    return ", ".join(cases[:_NAMED_CASES]) + (f" and {more} more" if more > 0 else "")
