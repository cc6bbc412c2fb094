"""Which implementation of an operator runs on which device: the seam where compiled kernels register.

Importing the package compiles and loads nothing.  Each operator has a plain-PyTorch reference that
works on every device; a faster implementation (a CUDA extension, say) calls `register` once it is
ready, and from then on tensors of that device type go to it.  An implementation may answer
`NotImplemented` for a call it does not cover (a dtype, a filter that is too long): the reference
then takes that call.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any


class Operator:
    """One operator: a reference function plus the implementations registered for device types."""

    def __init__(self, reference: Callable[..., Any]) -> None:
        self.reference = reference
        self.__name__, self.__doc__ = reference.__name__, reference.__doc__
        self.__wrapped__ = reference
        self._implementations: dict[str, Callable[..., Any]] = {}
        self._lock = Lock()

    def register(self, device_type: str, implementation: Callable[..., Any]) -> None:
        """Use `implementation` (same signature as the reference) for tensors on `device_type`, e.g. 'cuda'."""
        with self._lock:
            self._implementations = {**self._implementations, device_type: implementation}

    def unregister(self, device_type: str) -> None:
        """Go back to the reference on `device_type`."""
        with self._lock:
            self._implementations = {k: v for k, v in self._implementations.items() if k != device_type}

    def implementations(self) -> dict[str, Callable[..., Any]]:
        """Device type -> registered implementation (a copy)."""
        return dict(self._implementations)

    def __call__(self, x, *args: Any, **kwargs: Any) -> Any:
        implementation = self._implementations.get(x.device.type)
        if implementation is not None:
            result = implementation(x, *args, **kwargs)
            if result is not NotImplemented:
                return result
        return self.reference(x, *args, **kwargs)
