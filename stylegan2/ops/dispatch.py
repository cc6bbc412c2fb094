"""Which implementation of an operator a tensor goes to: compiled where there is one for its device, else the reference.

The reference is plain PyTorch and runs everywhere.  The compiled one is asked first on devices that have a library
(see `library`; for CUDA it is built at the first call, never at import).  It may answer `NotImplemented` for a call
that it does not cover (a gradient, a filter that is to be trained): the reference then takes that call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stylegan2.ops import library


class Operator:
    """One operator, called like a function: a reference and its compiled form, of the same signature."""

    def __init__(self, reference: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        self.reference, self.compiled = reference, compiled
        self.__name__, self.__doc__ = reference.__name__, reference.__doc__
        self.__wrapped__ = reference

    def __call__(self, x, *args: Any, **kwargs: Any) -> Any:
        if library.available(x.device.type):
            result = self.compiled(x, *args, **kwargs)
            if result is not NotImplemented:
                return result
        return self.reference(x, *args, **kwargs)
