"""What one user works on: photos, their inverted faces, and the history of what was done to them.

No Streamlit here.  A Studio belongs to one browser session and to nobody else; what all users share, the generator and
the thread that draws, is the Engine's.  Photos and inversions are kept in memory only, the last few of them, for
`LIFETIME` after they were last used, and `forget` drops them at once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from editing import dragging, provenance, regions, session, spatial
from editing.faces import align, detect
from editing.faces import photo as photos
from editing.faces.face import Face
from editing.heads import drawing, registry
from editing.inversion import Budget
from editing.judges import judge as judges
from editing.judges import population
from editing.steps import PLACES, pin
from editing.text import edits, reading
from editing.types import Edit, Inversion, Recipe, Step, generator_sha256, is_head, latent_step
from stylegan2 import engine as seeds
from stylegan2.errors import Cancelled, NoFaceFound, UsageError, WeightsMissing
from ui import look as looks
from ui import placing
from ui.engine import Engine, Job
from ui.history import History

PHOTOS = 4  # that are kept
LIFETIME = 3600.0  # seconds
MAX_BYTES, MAX_PIXELS = 64 << 20, 60_000_000
TOLD = 0.5  # standard deviations: a judge that moves less goes unmentioned
LOCKED = 0.4  # dlib distance that a locked identity stays below; 0.45 is another person
METHODS = ("encoder", "hyper", "hyper+tune", "tune")


@dataclass
class Opened:
    """A photo, its faces, and everything that was made of them.  inversions: (face, method, seconds) -> Inversion."""

    photo: photos.Photo
    faces: list[Face]
    aligned: bool = False
    used: float = 0.0
    face: int = 0
    inversions: dict[tuple, Inversion] = field(default_factory=dict)
    chosen: dict[int, tuple] = field(default_factory=dict)  # face -> which of its inversions is in use
    looks: dict[int, looks.Look] = field(default_factory=dict)
    scores: dict[int, judges.Scores | None] = field(default_factory=dict)
    history: History = History()
    versions: dict[str, Recipe] = field(default_factory=dict)
    drags: dict[str, torch.Tensor] = field(default_factory=dict)
    crops: dict[int, np.ndarray] = field(default_factory=dict)  # cutting takes a second where the photo is narrow


@dataclass(frozen=True)
class Result:
    """The real edit, some time after its quick picture: the edit, the crop cut from it (R, R, 3) uint8, the dlib
    distance from the unedited face (nan where one is not found), and how far each judge moved, in standard deviations;
    `recipe` is what was drawn: with a locked identity it may be less than what was asked for."""

    edit: Edit
    crop: np.ndarray
    distance: float
    moved: dict[str, float]
    recipe: Recipe


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
        if len(data) > MAX_BYTES:
            raise UsageError(f"{name} is larger than {MAX_BYTES >> 20} MB: make it smaller first.")
        photo = photos.decode(data, Path(name), MAX_PIXELS)
        recipe = None
        with suppress(UsageError):  # a damaged recipe is none; the picture is one all the same
            text = provenance.recipe_text(photo)
            recipe = Recipe.from_json(text) if text else None
        if recipe is not None and recipe.photo_sha256 in self.opened:
            return self.restore(recipe)
        opened = self._seen(photo)
        if recipe is not None:  # its photo is not here: the recipe waits for it, and this picture is as good as any
            self.waiting = recipe
        elif self.waiting is not None and self.waiting.photo_sha256 == photo.sha256:
            self.adopt()
        return opened

    def _seen(self, photo: photos.Photo) -> Opened:
        self.sweep()
        opened = self.opened.get(photo.sha256)
        if opened is None:
            faces = self.engine.run(lambda: detect.find_faces(photo.rgb))
            if not faces:
                raise NoFaceFound(f"No face was found in {photo.name}: try a larger picture, or crop it closer.")
            sure = [face for face in faces if face.score >= detect.DOUBTFUL] or faces[:1]  # numbered as in the CLI
            opened = Opened(photo, sure)
            self.opened[photo.sha256] = opened
        return self.enter(opened)

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

        def made() -> tuple[photos.Photo, Inversion]:
            generator = self.engine.generator
            ws = seeds.broadcast(generator, seeds.latents(generator, [seed], 0.7))
            inversion = Inversion(ws, generator.family, generator_sha256(generator), method="generated", seed=seed,
                                  threads=torch.get_num_threads())  # fmt: skip
            photo = photos.from_rgb(session.to_rgb(session.synthesise(generator, inversion)), Path(f"face-{seed}.png"))
            photo = replace(photo, xmp=provenance.xmp(Recipe().about(inversion)))  # unedited, it is no photo either
            return photo, replace(inversion, quad=align.border(photo.rgb), photo_sha256=photo.sha256)

        photo, inversion = self.engine.run(made)
        opened = self.opened.get(photo.sha256)
        if opened is None:
            side = float(photo.size[0])
            landmarks = np.zeros((68, 2))
            opened = Opened(photo, [Face((0.0, 0.0, side, side), 1.0, landmarks, "generated")], aligned=True)
            self.opened[photo.sha256] = opened
            opened.inversions[0, "generated", None] = inversion
            opened.chosen[0] = (0, "generated", None)
        return self.enter(opened)

    def draw(self, data: bytes, name: str, head: str, seed: int = 0) -> Job:
        """Begin to draw a face from a drawing or a damaged picture, or to colour a gray photo (`heads.drawing`); the
        job's result, a photo of its own, is for `drawn`."""
        photo = photos.decode(data, Path(name), MAX_PIXELS)

        def work(progress) -> Opened:
            editor = session.Editor(self.engine.generator, catalogue=self.engine.catalogue)
            faces = drawing.faces_of(photo)
            targets = drawing.seen(photo, faces, self.resolution)
            result, inversions = drawing.made(editor, drawing.Order(head), photo, targets, seed, progress)
            if progress(1, 1) is False:
                raise Cancelled("Cancelled.")
            stem, mark = f"{Path(name).stem}-{head.replace(':', '-')}.png", Recipe().about(inversions[0])
            result = replace(photos.from_rgb(result.rgb), path=Path(stem), xmp=provenance.xmp(mark))
            own = inversions[0].landmarks is None
            if own:
                faces = [Face((0.0, 0.0, *map(float, result.size)), 1.0, np.zeros((68, 2)), "generated")]
            opened = Opened(result, faces, aligned=own)
            for number, inversion in enumerate(inversions):
                key = (number, head, None)
                opened.inversions[key] = replace(inversion, photo_sha256=result.sha256)
                opened.chosen[number] = key
            return opened

        return self.engine.start(work)

    def drawn(self, opened: Opened) -> Opened:
        """Go on with what `draw` made; where it was made before, with what was done to it."""
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
                opened.crops[face] = align.crop(photo.rgb, quad, self.resolution)
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

    @property
    def resolution(self) -> int:
        return self.engine.generator.resolution

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
        opened, catalogue = self._current(), self.engine.catalogue
        steps = list(opened.history.present.steps)
        for name, strength in strengths.items():
            if not (registry.known(name) if is_head(name) else name in catalogue):
                raise UsageError(f"There is no edit '{name}'.")
            step = latent_step(name, strength, opened.face).model_copy(update={"region": region})
            side = None if is_head(name) else catalogue[name].clean
            if disentangle and side is not None and bool(side[int(strength > 0)].any()):
                step = step.model_copy(update={"parameters": {**step.parameters, "disentangle": True}})
            places = [i for i, old in enumerate(steps) if _same_edit(old, step)]
            if strength == 0:
                steps = [old for i, old in enumerate(steps) if i not in places]
            elif places:
                steps[places[0]] = step
            else:
                steps.append(step)
        if region is not None:
            regions.check(region, self.masks)
        self.do(opened.history.present.model_copy(update={"steps": tuple(steps)}), stroke)

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

        def work() -> tuple[Step, tuple[str, ...]]:
            return edits.step_of(text, face=face, region=region), reading.load().read(text).ignored

        step, ignored = self.engine.run(work)
        self.do(self.recipe.then(step))
        return ignored

    def asked(self) -> list[Step]:
        """The chosen face's steps of text."""
        return [step for step in self.steps() if step.op == edits.OP]

    def weigh(self, number: int, strength: float | None, stroke: str | None = None) -> None:
        """Another strength for one of `asked`; None takes it out."""
        steps, face = list(self.recipe.steps), self._current().face
        place = [i for i, step in enumerate(steps) if step.op == edits.OP and step.face == face][number]
        step = steps.pop(place)
        if strength is not None:
            steps.insert(place, step.model_copy(update={"parameters": {**step.parameters, "strength": strength}}))
        self.do(self.recipe.model_copy(update={"steps": tuple(steps)}), stroke)

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
        opened, inversion = self._current(), self.inversion
        before, _ = placing.split(self.steps(), op)
        drags = [step for step in self.steps() if step.op == "drag" and step.strength]

        def work() -> np.ndarray:
            tool = dragging.Drags(self.engine.generator, opened.drags)
            return spatial.followed(tool.labels(tool(inversion, drags)), before)[0]

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

    def adopt(self) -> None:
        """Use the recipe that waits on the photo that is open."""
        if self.waiting is not None:
            self.do(self.usable(self.waiting))
            self.waiting = None

    def usable(self, recipe: Recipe) -> Recipe:
        """The steps of a recipe from elsewhere that can be drawn here; `left_out` says how many cannot: of faces,
        edits, versions of edits or painted masks that there are not, or sentences that nobody has read."""

        def drawn(step: Step) -> list[Step]:
            with suppress(UsageError, WeightsMissing):
                (pinned,) = pin(Recipe(steps=(step,)), self.engine.catalogue, self.masks).steps
                read = step.model_copy(update={"parameters": pinned.parameters})
                return [read] if step.face < len(self._current().faces) else []
            return []

        steps = self.engine.run(lambda: [one for step in recipe.steps for one in drawn(step)])
        self.left_out = len(recipe.steps) - len(steps)
        return Recipe(steps=tuple(steps))

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
            opened.crops[opened.face] = align.crop(opened.photo.rgb, quad, self.resolution)
        return opened.crops[opened.face]

    def refine(self, lock: bool = False) -> Result:
        """Draw the present recipe as it will be saved, and judge it.  lock: with less of every edit, as long as the
        face is not recognised as the same person (`LOCKED`)."""
        return self.engine.run(lambda: self._refined(lock), urgent=False)

    def _refined(self, lock: bool) -> Result:
        opened, recipe = self._current(), self.drawable()
        asked = recipe
        for _ in range(4):
            edit = self.in_hand().edit(recipe)
            crop = align.crop(edit.photo.rgb, self.inversion.quad, self.resolution)
            before, after = self._judged(opened), judges.judge(crop) if edit.changed else None
            if not edit.changed or before is None or after is None:
                return Result(edit, crop, 0.0 if not edit.changed else float("nan"), {}, recipe)
            distance = judges.distance(before.descriptor, after.descriptor)
            if not lock or distance < LOCKED:
                break
            recipe = _weaker(recipe, opened.face, 0.97 * LOCKED / distance)
        names, _, spread = population.arrays()
        moved = {n: (after.values[n] - before.values[n]) / s for n, s in zip(names, spread, strict=True)}
        if recipe is not asked:
            self.do(recipe, stroke="lock")
        return Result(edit, crop, distance, moved, recipe)

    def _judged(self, opened: Opened) -> judges.Scores | None:
        if opened.face not in opened.scores:
            opened.scores[opened.face] = judges.judge(self.before())
        return opened.scores[opened.face]

    def in_hand(self) -> session.Editor:
        """An Editor that holds every inverted face of the photo; the reconstructions it keeps make edits quicker."""
        opened = self._current()
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


def told(moved: dict[str, float], targets: Iterable[str]) -> list[tuple[str, float]]:
    """What moved besides the targets, most first: (judge, standard deviations), where it is worth telling."""
    aimed = {target.lstrip("-") for target in targets}
    others = [(name, value) for name, value in moved.items() if name not in aimed and abs(value) >= TOLD]
    return sorted(others, key=lambda pair: -abs(pair[1]))


def _same_edit(a: Step, b: Step) -> bool:
    names = a.parameters.get("name"), b.parameters.get("name")
    return (a.op, a.face, a.region, names[0]) == (b.op, b.face, b.region, names[1])


def _weaker(recipe: Recipe, face: int, factor: float) -> Recipe:
    """Every strength of a face times a factor, rounded to what a slider shows."""

    def weakened(step: Step) -> Step:
        if step.face != face or "strength" not in step.parameters:
            return step
        strength = round(step.strength * factor, 2)
        return step.model_copy(update={"parameters": {**step.parameters, "strength": strength}})

    return recipe.model_copy(update={"steps": tuple(map(weakened, recipe.steps))})
