"""The errors that REACTKD raises on purpose.

Each message quotes the bad value and each error carries ``advice``: what the user can do next.
The command line turns the class into an exit code; the Slicer panel shows message and advice.
"""

from __future__ import annotations

from collections.abc import Mapping


class ReactKDError(Exception):
    """Base of all errors that REACTKD raises on purpose.

    Parameters
    ----------
    message : what is wrong, with the offending value.
    advice : what to do next, one sentence.
    """

    exit_code = 1

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class InputError(ReactKDError):
    """An image, a segmentation or their relation cannot be used."""

    exit_code = 3


class ClinicalValueError(InputError):
    """Clinical values of one patient cannot be used.

    ``fields`` : variable (or the unknown name that was given) -> what is wrong and what to do, for
    a panel to show at its field. They quote the values; ``for_log`` has the names alone, since a
    patient's values do not belong in a log.
    """

    def __init__(self, message: str, advice: str = "", fields: Mapping[str, str] | None = None):
        super().__init__(message, advice)
        self.fields = dict(fields or {})

    @property
    def for_log(self) -> str:
        """What may stand in a log: how many values, of which variables."""
        return f"{len(self.fields)} clinical values cannot be used: {', '.join(self.fields)}."


class ModelPackageError(ReactKDError):
    """A model package is missing, incomplete, altered or incompatible."""

    exit_code = 4


class OutputError(ReactKDError):
    """A result cannot be written, or would overwrite something."""

    exit_code = 5


class EnvironmentProblem(ReactKDError):
    """A library, a device or a download that the task needs is not available."""

    exit_code = 6


class OptionError(ReactKDError):
    """An option has a value that does not exist (device, region scheme, class, ...)."""

    exit_code = 2
