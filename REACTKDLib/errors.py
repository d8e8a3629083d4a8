"""The errors that REACTKD raises on purpose.

Each message quotes the bad value and each error carries ``advice``: what the user can do next.
The command line turns the class into an exit code; the Slicer panel shows message and advice.
"""

from __future__ import annotations


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
