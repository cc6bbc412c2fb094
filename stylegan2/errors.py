"""The exception family of the whole project.

Every error a person can cause is a `WplusError` whose message is one human sentence: it says
what was wrong and what to do about it.  A command line prints that sentence to stderr and exits
with `exit_code`; a traceback therefore always means a bug of ours.
"""


class WplusError(Exception):
    """Base of every error with a sentence for a person.  `exit_code`: 1 an input failed, 2 wrong usage."""

    exit_code = 1


class UsageError(WplusError):
    """The command or call itself is wrong: unknown name, strength that is not a number, bad option."""

    exit_code = 2


class CheckpointError(WplusError):
    """A weight file is damaged, hostile, of an unknown format, or of the wrong shape."""


class WeightsMissing(WplusError):
    """A weight file is not in the cache yet; the sentence names the command that fetches it."""


class PhotoError(WplusError):
    """A picture cannot be read or written: missing, truncated, not a picture, too large."""


class NoFaceFound(WplusError):
    """No face was found in a picture, or not as many as were asked for."""


class InversionError(WplusError):
    """An inversion file does not fit: damaged, other generator family, other version."""


class Cancelled(WplusError):
    """A long computation was cancelled between two steps; nothing was changed or written."""
