"""What travels through the editor: an Inversion of a face, a Recipe of steps, and a finished Edit.

An Inversion is biometric data: it is written to its own file (readable by its owner only) and never
into pictures, reports or logs.  A Recipe holds no face: it names what was done, so it may travel with
a picture.  Everything here is immutable; an edit makes a new value.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import torch
from torch import Tensor

from editing.faces.saving import write_atomically
from stylegan2.errors import InversionError, UsageError
from stylegan2.generator import Delta, FeatureEdit

VERSION = 1
SOFTWARE = "wplus 0.1.0"
MOST_STEPS, MOST_REGIONS = 512, 48  # of a recipe from a file: every region is a render


# ---------------------------------------------------------------------------------------- inversions


@dataclass(frozen=True)
class Inversion:
    """One face in the latent space of one generator.

    ws (1, num_ws, w_dim) in W+; deltas and features as `stylegan2.generator` defines them, for this
    image alone (B = 1).  quad (4, 2) and landmarks (68, 2) are in pixels of the upright photo, x before
    y; None for a picture that was already aligned.  photo_sha256 is of the photo's file.  `steps` is the
    step count actually taken; with seed, device, dtype and threads it says how to get the same again.
    """

    ws: Tensor
    family: str
    generator_sha256: str = ""
    deltas: Mapping[str, Delta] | None = None
    features: Mapping[str, FeatureEdit] | None = None
    quad: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    photo_sha256: str = ""
    method: str = ""
    steps: int = 0
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def compact(self) -> Inversion:
        """The same with deltas and features rounded to float16, as they are kept on disk.

        Rounding before the first render and not while saving makes pixels from memory and pixels from the
        file equal.
        """
        return replace(
            self,
            deltas=_map_values(self.deltas, lambda delta: delta.to(torch.float16)),
            features=_map_values(self.features, _half_feature),
        )

    def to(self, device: torch.device | str) -> Inversion:
        """The same with its tensors on another device."""
        return replace(
            self,
            ws=self.ws.to(device),
            deltas=_map_values(self.deltas, lambda delta: delta.to(device)),
            features=_map_values(self.features, lambda edit: _map_feature(edit, lambda t: t.to(device))),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors: about the size of its file."""
        edits = (tensor for edit in (self.features or {}).values() for tensor in _feature_parts(edit).values())
        factors = (factor for delta in (self.deltas or {}).values() for factor in delta.factors)
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.ws, *edits, *factors))

    def require(self, family: str, generator_sha256: str = "", transfer: bool = False) -> Inversion:
        """Return self if it fits this generator, else raise InversionError.

        Another family never fits.  Another member of the family (a fine-tuned generator) fits only with
        `transfer=True`: the picture will differ.
        """
        if self.family != family:
            raise InversionError(
                f"This inversion was made for a '{self.family}' generator and cannot be used with '{family}': "
                "invert the photo again."
            )
        differs = generator_sha256 and self.generator_sha256 and self.generator_sha256 != generator_sha256
        if differs and not transfer:
            raise InversionError(
                "This inversion was made with another generator of the same family: "
                "invert the photo again, or ask for a transfer."
            )
        return self

    def save(self, path: str | os.PathLike) -> Path:
        """Write one safetensors file, atomically, readable by its owner only.  Raises WplusError (disk full ...)."""
        write_atomically(path, self.to_bytes(), mode=0o600)
        return Path(path)

    def to_bytes(self) -> bytes:
        """What `save` writes, for whoever writes it elsewhere."""
        from safetensors.torch import save

        tensors, deltas = {"ws": self.ws.float()}, {}
        for layer, delta in (self.deltas or {}).items():
            deltas[layer] = delta.kind
            tensors |= {f"delta/{layer}/{i}": factor for i, factor in enumerate(delta.factors)}
        for stage, edit in (self.features or {}).items():
            tensors |= {f"feature/{stage}/{part}": tensor for part, tensor in _feature_parts(edit).items()}
        for name in ("quad", "landmarks"):
            if getattr(self, name) is not None:
                tensors[name] = torch.from_numpy(np.array(getattr(self, name), dtype=np.float64))
        facts = {"version": VERSION, "software": SOFTWARE, "delta_kinds": deltas, "metrics": dict(self.metrics)}
        facts |= {name: getattr(self, name) for name in _FACTS}
        apart = {  # a copy of each: safetensors refuses tensors that share memory, as ws and a feature's base_ws do
            name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()
        }
        return save(apart, {"wplus": json.dumps(facts)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Inversion:
        """Read what `save` wrote.  Raises InversionError if it is missing, damaged or no inversion."""
        from safetensors import safe_open

        path = Path(path)
        if not path.is_file():
            raise InversionError(f"There is no inversion file at {path}.")
        try:
            with safe_open(path, "pt") as stream:
                facts = json.loads((stream.metadata() or {})["wplus"])
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return cls._from_parts(facts, tensors)
        except InversionError as error:
            raise InversionError(f"{path.name}: {error}") from None
        except Exception as error:  # whatever strange facts and tensors lead to
            raise InversionError(
                f"{path.name} is damaged, or not an inversion file: invert the photo again."
            ) from error

    @classmethod
    def _from_parts(cls, facts: dict, tensors: dict[str, Tensor]) -> Inversion:
        if facts["version"] != VERSION:
            raise InversionError(f"it has format version {facts['version']}, this program reads {VERSION}.")
        ws = tensors["ws"]
        if ws.ndim != 3 or ws.shape[0] != 1 or not all(torch.isfinite(t).all() for t in tensors.values()):
            raise InversionError("its latent code is damaged: invert the photo again.")
        offsets = [tensor for name, tensor in tensors.items() if name.startswith(("delta/", "feature/"))]
        if not all(tensor.ndim and tensor.shape[0] == 1 for tensor in offsets):
            raise InversionError("its weight or feature offsets are damaged: invert the photo again.")
        Settings(**{name: facts[name] for name in Settings.model_fields})  # TypeError and the like
        if not all(_sound(tensors[name], shape) for name, shape in _GEOMETRY.items() if name in tensors):
            raise InversionError("its face geometry is damaged: invert the photo again.")
        deltas = {layer: Delta(kind, _factors(tensors, layer)) for layer, kind in facts["delta_kinds"].items()}
        stages = dict.fromkeys(name.split("/")[1] for name in tensors if name.startswith("feature/"))
        return cls(
            ws=ws,
            deltas=deltas or None,
            features={stage: _feature(tensors, stage) for stage in stages} or None,
            quad=tensors["quad"].numpy() if "quad" in tensors else None,
            landmarks=tensors["landmarks"].numpy() if "landmarks" in tensors else None,
            metrics=dict(facts["metrics"]),
            **{name: facts[name] for name in _FACTS},
        )


def generator_sha256(generator: Any) -> str:
    """The fingerprint of a generator's float32 source weights, '' for one that was not loaded from a file."""
    return getattr(getattr(generator, "provenance", None), "sha256", "")


_FACTS = ("family", "generator_sha256", "photo_sha256", "method", "steps", "seed", "device", "dtype", "threads")


FURTHEST = 1e6  # pixels: no photo is so wide
_GEOMETRY = {"quad": (4, 2), "landmarks": (68, 2)}


def _sound(points: Tensor, shape: tuple[int, int]) -> bool:
    """Points of the right shape that span an area, as a face does."""
    near = points.shape == shape and bool(points.abs().max() < FURTHEST)
    return near and bool(torch.linalg.matrix_rank(points.double() - points.double().mean(0)) == 2)


def _map_values(mapping: Mapping | None, change: Callable) -> dict | None:
    return None if mapping is None else {key: change(value) for key, value in mapping.items()}


def _feature_parts(edit: FeatureEdit) -> dict[str, Tensor]:
    parts = {part.name: getattr(edit, part.name) for part in fields(edit)}
    return {name: tensor for name, tensor in parts.items() if tensor is not None}


def _map_feature(edit: FeatureEdit, change: Callable[[Tensor], Tensor]) -> FeatureEdit:
    return FeatureEdit(**{name: change(tensor) for name, tensor in _feature_parts(edit).items()})


def _half_feature(edit: FeatureEdit) -> FeatureEdit:
    return replace(_map_feature(edit, lambda tensor: tensor.to(torch.float16)), base_ws=edit.base_ws)


def _factors(tensors: dict[str, Tensor], layer: str) -> tuple[Tensor, ...]:
    names = sorted(name for name in tensors if name.rsplit("/", 1)[0] == f"delta/{layer}")
    return tuple(tensors[name] for name in names)


def _feature(tensors: dict[str, Tensor], stage: str) -> FeatureEdit:
    prefix = f"feature/{stage}/"
    return FeatureEdit(**{name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})


# ------------------------------------------------------------------------------------------- recipes


class _Immutable(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Step(_Immutable):
    """One thing done to one face: an op ('latent', 'sketch', 'text', ...) with its parameters.

    For a latent edit: parameters = {'name': 'smile', 'strength': 2.0}.  `direction_sha256` pins the
    direction or head that did it, `region` a named mask, `seed` whatever is drawn at random.
    """

    op: str = "latent"
    parameters: dict[str, Any] = pydantic.Field(default_factory=dict)
    direction_sha256: str = ""
    face: int = 0
    region: str | None = None
    seed: int | None = None

    @pydantic.field_validator("parameters")
    @classmethod
    def _finite(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if "strength" in parameters:
            return {**parameters, "strength": finite(parameters["strength"], parameters.get("name", "an edit"))}
        return parameters

    @property
    def strength(self) -> float:
        """0 means that the step does nothing; ops without a strength count as 1."""
        return float(self.parameters.get("strength", 1.0))


class Settings(_Immutable):
    """How the inversion under a recipe was made: what somebody needs to make the same one again."""

    method: str = ""
    steps: int = 0
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0


class Recipe(_Immutable):
    """An ordered list of steps, and the hashes of what they were applied to.  No face is in it."""

    version: int = VERSION
    software: str = SOFTWARE
    steps: tuple[Step, ...] = ()
    family: str = ""
    generator_sha256: str = ""
    photo_sha256: str = ""
    inversion: Settings | None = None

    @classmethod
    def from_strengths(cls, strengths: Mapping[str, float], face: int = 0) -> Recipe:
        """{'smile': 2.0, 'age': -3.0} -> a recipe of latent steps in that order.  UsageError: not a finite number."""
        return cls(steps=tuple(latent_step(name, value, face) for name, value in strengths.items()))

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Parse what `to_json` wrote, or a plain {"smile": 2} object.  UsageError in one sentence otherwise."""
        try:
            data = json.loads(text)
            if isinstance(data, dict) and "steps" not in data:
                return cls.from_strengths(data)
            recipe = cls.model_validate(data)
            recipe.to_json()  # what cannot be written could not be kept, either
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the top"
            raise UsageError(f"The recipe is not valid: {first['msg']} at {where}.") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"The recipe is not valid JSON: {error}.") from None
        if recipe.version != VERSION:
            raise UsageError(f"The recipe has format version {recipe.version}; this program reads {VERSION}.")
        for count, most, what in ((len(recipe.steps), MOST_STEPS, "steps"),
                                  (len({step.region for step in recipe.steps}), MOST_REGIONS, "regions")):  # fmt: skip
            if count > most:
                raise UsageError(f"The recipe has {count} {what}; at most {most} can be read.")
        return recipe

    def to_json(self) -> str:
        return self.model_dump_json(indent=1, exclude_defaults=False)

    def then(self, *steps: Step) -> Recipe:
        return self.model_copy(update={"steps": (*self.steps, *steps)})

    def about(self, inversion: Inversion) -> Recipe:
        """The same steps, with the facts of the inversion they are applied to."""
        settings = Settings(**{name: getattr(inversion, name) for name in Settings.model_fields})
        facts = {name: getattr(inversion, name) for name in ("family", "generator_sha256", "photo_sha256")}
        return self.model_copy(update={"inversion": settings, **facts})

    @property
    def is_identity(self) -> bool:
        """True when no step does anything, so that the photo must come out untouched."""
        return all(step.strength == 0 for step in self.steps)


def is_head(name: str) -> bool:
    """Translation heads are called KIND:WAY; edits of the catalogue have no colon."""
    return ":" in name


def latent_step(name: str, strength: float, face: int = 0, direction_sha256: str = "") -> Step:
    """A step that is one strength: an edit along a named direction, or a translation head.  UsageError if the strength
    is not a finite number."""
    parameters, op = {"name": name, "strength": strength}, "head" if is_head(name) else "latent"
    return Step(op=op, parameters=parameters, face=face, direction_sha256=direction_sha256)


def finite(strength: Any, name: str) -> float:
    """The strength as a finite float.  UsageError in one sentence otherwise."""
    try:
        value = math.nan if isinstance(strength, bool) else float(strength)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"The strength of '{name}' must be a finite number, not '{strength}'.")
    return value


# ------------------------------------------------------------------------------- scenes and results


@dataclass(frozen=True)
class Scene:
    """A photo (`editing.faces.photo.Photo`) and its faces, each with an Inversion once it has one."""

    photo: Any
    faces: tuple[Any, ...] = ()
    inversions: Mapping[int, Inversion] = field(default_factory=dict)

    def with_inversion(self, face: int, inversion: Inversion) -> Scene:
        return replace(self, inversions={**self.inversions, face: inversion})


@dataclass(frozen=True)
class Edit:
    """A finished edit: the whole photo with the face put back, the edited crop, and the recipe.

    photo: `editing.faces.photo.Photo` (None when only a crop was edited); crop (1, 3, R, R) float in
    [-1, 1]; changed: False when the recipe does nothing, so that `photo` is the input itself.
    """

    photo: Any
    crop: Tensor
    recipe: Recipe
    changed: bool
