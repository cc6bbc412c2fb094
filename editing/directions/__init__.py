"""Directions in W: fitted from judges, explored, imported; the measured ones named in one catalogue."""

from editing.directions.catalogue import Catalogue, Direction, apply, disentangled, load

__all__ = ["Catalogue", "Direction", "apply", "disentangled", "load"]
