"""Undo and redo over recipes, which never change: a history is a line of them and a place on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from editing.types import Recipe

LIMIT = 200  # recipes that are remembered


@dataclass(frozen=True)
class History:
    """past (oldest first), present, future (next first)."""

    present: Recipe = Recipe()
    past: tuple[Recipe, ...] = ()
    future: tuple[Recipe, ...] = ()
    stroke: str | None = None

    def do(self, recipe: Recipe, stroke: str | None = None) -> History:
        """The recipe as the present; what was undone before is forgotten.

        Recipes of one `stroke`, such as a slider that is being dragged, count as one thing done.
        """
        if recipe == self.present:  # nothing done: a stroke that begins here begins with the next recipe
            return self if stroke == self.stroke else replace(self, stroke=None)
        if stroke is not None and stroke == self.stroke and self.past:
            return replace(self, present=recipe, future=())
        return History(recipe, (*self.past, self.present)[-LIMIT:], (), stroke)

    def instead(self, recipe: Recipe) -> History:
        """The recipe in the place of the present; what can be undone and redone stays."""
        return replace(self, present=recipe)

    def undo(self) -> History:
        """One back; the history itself where there is nothing to undo."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redo(self) -> History:
        """One forward again; the history itself where there is nothing to redo."""
        if not self.future:
            return self
        return History(self.future[0], (*self.past, self.present), self.future[1:])

    def to(self, index: int) -> History:
        """The place `index` on the line, 0 the oldest."""
        line = self.line
        index = min(max(index, 0), len(line) - 1)
        return History(line[index], line[:index], line[index + 1 :])

    @property
    def line(self) -> tuple[Recipe, ...]:
        return (*self.past, self.present, *self.future)
