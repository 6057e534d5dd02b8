"""Errors a user can mend. Each carries a code that the CLI, quarantine tables and the API share."""

from __future__ import annotations


class TryonError(ValueError):
    """Something the user gave is wrong; the message is one sentence that names it.

    Attributes:
        code: short kebab-case identifier, stable across releases (e.g. ``"image-truncated"``).
        field: name of the input at fault (``"person_image"``, ``"--bundle"``), if known.
    """

    def __init__(self, message: str, *, code: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.code, self.field)


def _rebuild(cls: type[TryonError], message: str, code: str, field: str | None) -> TryonError:
    error = cls.__new__(cls)
    TryonError.__init__(error, message, code=code, field=field)
    return error


class SampleError(TryonError):
    """One sample cannot be processed; the others can. Ends in quarantine or in a 4xx."""


class ImageError(SampleError):
    """An image file cannot be used: not an image, truncated, animated, too large."""


class BundleError(TryonError):
    """A bundle is missing, incomplete, corrupt or lacks the network that was asked for."""


class PromotionError(BundleError):
    """An alias does not stand for what the promotion took it for; the message names what it stands for now."""


class StorageError(TryonError):
    """A URI cannot be understood, read or written."""


class PipelineError(TryonError):
    """Stages were composed in a way that cannot run."""


class ConfigError(TryonError):
    """A configuration value is unknown or out of bounds."""


class TrainError(TryonError):
    """A training run cannot go on: its loss is not finite, memory has run out, a worker keeps dying."""


class DataError(TryonError):
    """A data set is empty, lacks fields, or was written by another schema version."""
