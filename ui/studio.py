"""What one user works on: photos, their inverted faces, and the history of what was done to them.

No Streamlit here.  A Studio belongs to one browser session and to nobody else; what all users share, the generator and
the thread that draws, is the Engine's.  Photos and inversions are kept in memory only, the last few of them, for
`LIFETIME` after they were last used, and `forget` drops them at once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from editing import dragging, provenance, regions, session, spatial
from editing.faces import align
from editing.faces import photo as photos
from editing.inversion import Budget
from editing.judges import judge as judges
from editing.steps import PLACES
from editing.text import edits
from editing.types import Inversion, Recipe, Step
from stylegan2.errors import UsageError
from ui import look as looks
from ui import opening, placing, recipes, refining, saying
from ui.engine import Engine, Job
from ui.opening import Opened

PHOTOS = 4  # that are kept
LIFETIME = 3600.0  # seconds
METHODS = ("encoder", "hyper", "hyper+tune", "tune")


class Studio:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.opened: OrderedDict[str, Opened] = OrderedDict()
        self.current: Opened | None = None
        self.masks: dict[str, np.ndarray] = {}
        self.waiting: Recipe | None = None  # a recipe that came without its photo
        self.left_out = 0
        self._editor: session.Editor | None = None
        self._in_editor: tuple | None = None

    # ------------------------------------------------------------------------------------------ photos

    def open(self, data: bytes, name: str) -> Opened:
        """A file that the user gave: a photo, or a picture of this program's that brings its recipe back.

        Raises PhotoError or NoFaceFound in one sentence; what was open stays then.
        """
        photo, recipe = opening.read(data, name)
        if recipe is not None and recipe.photo_sha256 in self.opened:
            return self.restore(recipe)
        self.sweep()
        opened = self.drawn(self.opened.get(photo.sha256) or self.engine.run(lambda: opening.found(photo)))
        if recipe is not None:  # its photo is not here: the recipe waits for it, and this picture is as good as any
            self.waiting = recipe
        elif self.waiting is not None and self.waiting.photo_sha256 == photo.sha256:
            self.adopt()
        return opened

    def enter(self, opened: Opened) -> Opened:
        """Make this photo the one that is worked on."""
        self.current, opened.used = opened, time.monotonic()
        self.opened.move_to_end(opened.photo.sha256)
        while len(self.opened) > PHOTOS:
            self.opened.popitem(last=False)
        return opened

    def sweep(self) -> None:
        """Drop what was not used for its lifetime."""
        old = time.monotonic() - LIFETIME
        for name in [n for n, o in self.opened.items() if o.used < old and o is not self.current]:
            del self.opened[name]

    def forget(self) -> None:
        """Drop every photo, inversion, mask and recipe."""
        self.__init__(self.engine)

    def generated(self, seed: int) -> Opened:
        """A face that nobody has, as a photo whose inversion is known."""
        return self.drawn(self.engine.run(lambda: opening.generated(self.engine.generator, seed)))

    def draw(self, data: bytes, name: str, head: str, seed: int = 0) -> Job:
        """Begin to draw a face from a drawing or a damaged picture, or to colour a gray photo (`heads.drawing`); the
        job's result, a photo of its own, is for `drawn`."""
        photo = photos.decode(data, Path(name), opening.MAX_PIXELS)

        def work(progress) -> Opened:
            editor = session.Editor(self.engine.generator, catalogue=self.engine.catalogue)
            return opening.drawn(editor, photo, name, head, seed, progress)

        return self.engine.start(work)

    def drawn(self, opened: Opened) -> Opened:
        """Go on with a photo that was opened or made by `draw`; where it was here before, with what was done to it."""
        return self.enter(self.opened.setdefault(opened.photo.sha256, opened))

    # -------------------------------------------------------------------------------------- inverting

    def invert(self, method: str, seconds: float | None = None) -> Job | None:
        """Begin to invert the chosen face; None where that has been done before, which is then in use again."""
        opened, face = self._current(), self._current().face
        key = (face, method, seconds)
        if key in opened.inversions:
            self._use(opened, key)
            return None
        photo, quad, landmarks = opened.photo, opened.faces[face].quad, opened.faces[face].landmarks

        def work(progress) -> Inversion:
            editor = session.Editor(self.engine.generator, catalogue=self.engine.catalogue)
            if face not in opened.crops:
                opened.crops[face] = align.crop(photo.rgb, quad, self.engine.generator.resolution)
            crop = session.to_tensor(opened.crops[face])
            budget = None if seconds is None else Budget(seconds=seconds)
            inversion = editor.set_photo(photo, face=face, method=method, budget=budget, callback=progress,
                                         target=session.Target(quad, landmarks, crop))  # fmt: skip
            opened.inversions[key] = inversion
            self._use(opened, key)
            return inversion

        return self.engine.start(work)

    def _use(self, opened: Opened, key: tuple) -> None:
        opened.chosen[key[0]] = key
        for kept in (opened.looks, opened.scores):
            kept.pop(key[0], None)
        self._in_editor = None

    @property
    def inversion(self) -> Inversion | None:
        """That of the chosen face, None before it is inverted."""
        opened = self.current
        key = opened.chosen.get(opened.face) if opened else None
        return opened.inversions[key] if key else None

    # ---------------------------------------------------------------------------------------- editing

    @property
    def recipe(self) -> Recipe:
        return self._current().history.present

    def steps(self, face: int | None = None) -> list[Step]:
        """The steps of the recipe that are about a face, by default the chosen one."""
        face = self._current().face if face is None else face
        return [step for step in self.recipe.steps if step.face == face]

    def set(self, strengths: dict[str, float], region: str | None = None, *, disentangle: bool = False,
            stroke: str | None = None) -> None:  # fmt: skip
        """Strengths of named edits and heads in one region of the chosen face, beside what is set elsewhere; 0 takes
        one out.

        Disentangled where there is such a form on that side, if asked for.  UsageError for a name or region that
        there is not.
        """
        face, catalogue = self._current().face, self.engine.catalogue
        recipe = recipes.with_strengths(self.recipe, face, strengths, region, catalogue, disentangle)
        if region is not None:
            regions.check(region, self.masks)
        self.do(recipe, stroke)

    def do(self, recipe: Recipe, stroke: str | None = None) -> None:
        opened = self._current()
        opened.history = opened.history.do(recipe, stroke)

    def ask(self, text: str, region: str | None = None) -> tuple[str, ...]:
        """What a sentence asks for, done to the chosen face after all else; what of the sentence was left out.

        UsageError where it asks for nothing known or there is no such region, WeightsMissing without the encoder.
        """
        face = self._current().face
        if region is not None:
            regions.check(region, self.masks)
        step, ignored = self.engine.run(lambda: saying.heard(text, face, region))
        self.do(self.recipe.then(step))
        return ignored

    def asked(self) -> list[Step]:
        """The chosen face's steps of text."""
        return [step for step in self.steps() if step.op == edits.OP]

    def weigh(self, number: int, strength: float | None, stroke: str | None = None) -> None:
        """Another strength for one of `asked`; None takes it out."""
        self.do(recipes.weighed(self.recipe, self._current().face, number, strength), stroke)

    def undo(self) -> None:
        self._current().history = self._current().history.undo()

    def redo(self) -> None:
        self._current().history = self._current().history.redo()

    def drag(self, points: list[list[float]]) -> Job:
        """Begin to drag points of the chosen face, beside those that were dragged before; then it is in the recipe."""
        opened, inversion = self._current(), self.inversion
        step, before = dragging.step_of(points, opened.face), [s for s in self.steps() if s.op == "drag"]

        def work(progress) -> Recipe:
            dragging.Drags(self.engine.generator, opened.drags)(inversion, [*before, step], progress)
            opened.history = opened.history.do(opened.history.present.then(step))
            return opened.history.present

        return self.engine.start(work)

    def map(self, op: str) -> np.ndarray:
        """The map of the chosen face's parts (SIDE, SIDE) uint8 that its last step of an op, 'paint' or 'boxes',
        begins from."""
        opened, inversion, steps = self._current(), self.inversion, self.steps()

        def work() -> np.ndarray:
            return placing.map_of(dragging.Drags(self.engine.generator, opened.drags), inversion, steps, op)

        return self.engine.run(work)

    def labels(self) -> np.ndarray:
        """What is painted on that map: (SIDE, SIDE) uint8, spatial.NOTHING elsewhere."""
        return placing.painted(placing.split(self.steps(), "paint")[1])

    def label(self, labels: np.ndarray) -> None:
        """Labels painted on the chosen face instead of those of `labels`; NOTHING everywhere takes them out."""
        if labels.ndim != 2 or labels.shape[0] != labels.shape[1]:
            raise UsageError("A map of a face's parts is square.")
        step, last = spatial.paint_step(labels, self._current().face), placing.split(self.steps(), "paint")[1]
        nothing = bool((spatial.checked(step) == spatial.NOTHING).all())
        self.do(placing.replaced(self.recipe, last, None if nothing else step))

    def parts(self) -> dict[str, placing.Part]:
        """The chosen face's parts that have boxes, and where they are."""
        return placing.parts(self.map("boxes"), placing.split(self.steps(), "boxes")[1])

    def move(self, changes: Mapping[str, Sequence[float] | None], stroke: str | None = None) -> None:
        """Some parts to other boxes, or back to where they were (None)."""
        step = placing.moved(self.parts(), changes, self._current().face)
        self.do(placing.replaced(self.recipe, placing.split(self.steps(), "boxes")[1], step), stroke)

    def ground(self) -> Recipe:
        """The chosen face's steps that say what is where on its map: points that were dragged, parts painted, moved."""
        return Recipe(steps=tuple(step for step in self.steps() if step.op in ("drag", *PLACES)))

    def reset(self) -> None:
        """Take every edit back (this can be undone)."""
        self.do(self.recipe.model_copy(update={"steps": ()}))

    def paint(self, mask: np.ndarray) -> str:
        """A mask over the crop (S, S) in [0, 1] -> its name as a region."""
        name = regions.named(mask)
        self.masks[name] = mask
        return name

    def restore(self, recipe: Recipe) -> Opened:
        """The photo of a recipe, which is here, with that recipe as its present."""
        opened = self.enter(self.opened[recipe.photo_sha256])
        opened.face = next((step.face for step in recipe.steps if step.face < len(opened.faces)), opened.face)
        self.do(self.usable(recipe))
        return opened

    @property
    def linked(self) -> bool:
        """Does a recipe wait that has no photo of its own, from an address?"""
        return self.waiting is not None and not self.waiting.photo_sha256

    def adopt(self) -> None:
        """Use the recipe that waits on the photo that is open."""
        if self.waiting is not None:
            self.do(self.usable(self.waiting))
            self.waiting = None

    def usable(self, recipe: Recipe) -> Recipe:
        """The steps of a recipe from elsewhere that can be drawn here; `left_out` says how many cannot: of faces,
        edits, versions of edits or painted masks that there are not, or sentences that nobody has read."""
        faces = len(self.current.faces) if self.current else 0
        found = self.engine.run(lambda: recipes.usable(recipe, faces, self.engine.catalogue, self.masks))
        self.left_out = len(recipe.steps) - len(found.steps)
        return found

    def drawable(self) -> Recipe:
        """The present recipe, less the steps of faces that have not been inverted."""
        opened = self._current()
        steps = tuple(step for step in self.recipe.steps if step.face in opened.chosen)
        return self.recipe if len(steps) == len(self.recipe.steps) else Recipe(steps=steps)

    # ---------------------------------------------------------------------------------------- drawing

    def preview(self, recipe: Recipe | None = None) -> np.ndarray:
        """The quick picture (S, S, 3) uint8 of the chosen face after a recipe, by default the present one."""
        opened = self._current()
        face, recipe = opened.face, opened.history.present if recipe is None else recipe

        def work() -> np.ndarray:
            steps = [step for step in recipe.steps if step.face == face]
            return looks.draw(self.engine.quick, self._look(), steps, self.engine.catalogue, self.masks,
                              opened.drags)  # fmt: skip

        return self.engine.run(work)

    def _look(self) -> looks.Look:
        opened, inversion = self._current(), self.inversion
        if inversion is None:
            raise UsageError("This face has not been inverted yet.")
        if opened.face not in opened.looks:
            crop = session.to_tensor(self.before())
            whole = bool(np.allclose(inversion.quad, align.border(opened.photo.rgb)))
            opened.looks[opened.face] = looks.look(self.engine.quick, inversion, crop, whole)
        return opened.looks[opened.face]

    def before(self) -> np.ndarray:
        """The unedited crop (R, R, 3) uint8 of the chosen face."""
        opened = self._current()
        if opened.face not in opened.crops:
            quad = self.inversion.quad if self.inversion else opened.faces[opened.face].quad
            opened.crops[opened.face] = align.crop(opened.photo.rgb, quad, self.engine.generator.resolution)
        return opened.crops[opened.face]

    def refine(self, lock: bool = False) -> refining.Result:
        """Draw the present recipe as it will be saved, and judge it.  lock: with less of every edit, as long as the
        face is not recognised as the same person (`refining.LOCKED`)."""
        return self.engine.run(lambda: self._refined(lock), urgent=False)

    def _refined(self, lock: bool) -> refining.Result:
        opened, asked = self._current(), self.drawable()
        result = refining.refined(self.in_hand(), opened.face, self._judged(opened), asked, lock)
        if result.moved and result.recipe is not asked:
            weakened, history = iter(result.recipe.steps), opened.history
            steps = (next(weakened) if step.face in opened.chosen else step for step in self.recipe.steps)
            recipe = self.recipe.model_copy(update={"steps": tuple(steps)})
            # on the way back it takes the place of what it is less of: what was undone can still be redone
            opened.history = history.instead(recipe) if history.future else history.do(recipe, "lock")
        return result

    def _judged(self, opened: Opened) -> judges.Scores | None:
        if opened.face not in opened.scores:
            opened.scores[opened.face] = judges.judge(self.before())
        return opened.scores[opened.face]

    def in_hand(self, opened: Opened | None = None) -> session.Editor:
        """An Editor that holds every inverted face of a photo, by default the one that is open; the reconstructions it
        keeps make edits quicker."""
        opened = opened or self._current()
        held = (opened.photo.sha256, tuple(sorted(opened.chosen.items())))
        if self._in_editor != held:
            self._editor = session.Editor(self.engine.generator, catalogue=self.engine.catalogue)
            for face, key in sorted(opened.chosen.items(), key=lambda item: item[0] != opened.face):
                self._editor.set_inversion(opened.inversions[key], opened.photo, face)
            self._in_editor = held
        self._editor.masks, self._editor.drags = dict(self.masks), opened.drags
        return self._editor

    def export(self, suffix: str = ".png") -> tuple[bytes, Recipe]:
        """The edited photo as a file in its own size, marked and with its recipe inside, and that recipe."""

        def work() -> tuple[bytes, Recipe]:
            edit = self.in_hand().edit(self.drawable())
            return provenance.encode(edit.photo, suffix, edit.recipe, edit.changed), edit.recipe

        return self.engine.run(work)

    def _current(self) -> Opened:
        if self.current is None:
            raise UsageError("No photo is open.")
        return self.current
