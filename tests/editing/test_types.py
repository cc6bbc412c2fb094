"""Inversions and recipes: what is written comes back, what does not fit is refused in one sentence."""

import json
import math
import os
import stat

import numpy as np
import pytest
import torch

from editing.types import Inversion, Recipe, Step, latent_step
from stylegan2.errors import InversionError, UsageError, WplusError
from stylegan2.generator import Delta, FeatureEdit


def some_inversion(**changes) -> Inversion:
    draw = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=draw)

    facts = {
        "ws": random(1, 4, 8),
        "family": "tiny-16",
        "generator_sha256": "a" * 64,
        "deltas": {
            "blocks.0/odd name": Delta("add", (random(1, 3, 3, 1, 1),)),
            "blocks.1": Delta("lowrank", (random(1, 3, 2), random(1, 2, 5))),
        },
        "features": {
            "b8": FeatureEdit(random(1, 2, 8, 8), torch.rand(1, 1, 8, 8, generator=draw), random(1, 4, 8)),
            "b16": FeatureEdit(random(1, 2, 8, 8), torch.ones(1, 1, 8, 8), random(1, 4, 8), basis=random(1, 6, 2)),
        },
        "quad": np.array([[0, 0], [0, 90], [90, 90], [90, 0]]) / 3,
        "landmarks": np.random.default_rng(0).uniform(0, 90, (68, 2)),
        "photo_sha256": "b" * 64,
        "method": "tune",
        "steps": 70,
        "seed": 3,
        "threads": 2,
        "metrics": {"l2": 0.004},
    }
    return Inversion(**facts | changes)


def assert_same(a: Inversion, b: Inversion) -> None:
    assert torch.equal(a.ws, b.ws)
    for one, other in ((a.deltas, b.deltas), (b.deltas, a.deltas)):
        for layer in one or {}:
            assert one[layer].kind == other[layer].kind
            assert all(map(torch.equal, one[layer].factors, other[layer].factors))
    for stage in a.features or {}:
        assert torch.equal(a.features[stage].residual, b.features[stage].residual)
        assert torch.equal(a.features[stage].mask, b.features[stage].mask)
        assert torch.equal(a.features[stage].base_ws, b.features[stage].base_ws)
        assert (a.features[stage].basis is None) == (b.features[stage].basis is None)
        if a.features[stage].basis is not None:
            assert torch.equal(a.features[stage].basis, b.features[stage].basis)
    assert np.array_equal(a.quad, b.quad) and np.array_equal(a.landmarks, b.landmarks)
    plain = ("family", "generator_sha256", "photo_sha256", "method", "steps", "seed", "device", "dtype", "threads")
    assert all(getattr(a, name) == getattr(b, name) for name in (*plain, "metrics"))


def test_save_and_load_give_the_same_back(tmp_path):
    inversion = some_inversion()
    assert_same(inversion, Inversion.load(inversion.save(tmp_path / "face.inversion")))


def test_features_made_at_the_code_that_is_kept_can_be_saved(tmp_path):
    """As `tune` makes them: the feature's base_ws is the inversion's own ws, not a copy."""
    ws = torch.randn(1, 4, 8)
    shared = some_inversion(ws=ws, features={"b8": FeatureEdit(torch.ones(1, 2, 8, 8), torch.ones(1, 1, 8, 8), ws)})
    assert_same(shared, Inversion.load(shared.save(tmp_path / "face.inversion")))


def test_compact_is_what_the_disk_keeps(tmp_path):
    full, compact = some_inversion(), some_inversion().compact()
    loaded = Inversion.load(compact.save(tmp_path / "face.inversion"))
    assert_same(compact, loaded)
    assert loaded.ws.dtype == torch.float32  # the latent code keeps its precision
    assert loaded.deltas["blocks.1"].factors[0].dtype == torch.float16
    assert loaded.features["b8"].residual.dtype == torch.float16
    assert loaded.features["b8"].base_ws.dtype == torch.float32
    assert not torch.equal(full.deltas["blocks.1"].factors[0], compact.deltas["blocks.1"].factors[0].float())


def test_a_plain_inversion_needs_nothing_else(tmp_path):
    plain = Inversion(ws=torch.zeros(1, 2, 4), family="tiny-16")
    loaded = Inversion.load(plain.save(tmp_path / "x.safetensors"))
    assert loaded.deltas is None and loaded.features is None and loaded.quad is None


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_only_the_owner_can_read_it(tmp_path):
    mode = some_inversion().save(tmp_path / "face.inversion").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\xff" * 4096, b'{"ws": 1}', (10**9).to_bytes(8, "little") + b"{}"],
    ids=["empty", "text", "noise", "json", "lying header"],
)
def test_damaged_files_give_one_sentence(tmp_path, content):
    path = tmp_path / "face.inversion"
    path.write_bytes(content)
    with pytest.raises(InversionError, match=r"^face\.inversion .*invert the photo again\.$"):
        Inversion.load(path)


def test_truncated_and_foreign_files(tmp_path):
    path = some_inversion().save(tmp_path / "face.inversion")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InversionError):
        Inversion.load(path)
    from safetensors.torch import save_file

    save_file({"ws": torch.zeros(1, 2, 4)}, path)
    with pytest.raises(InversionError, match="not an inversion"):
        Inversion.load(path)
    with pytest.raises(InversionError, match="no inversion file"):
        Inversion.load(tmp_path / "missing.inversion")
    with pytest.raises(InversionError):
        Inversion.load(tmp_path)


def test_a_code_that_is_not_finite_is_refused(tmp_path):
    path = some_inversion(ws=torch.full((1, 4, 8), math.nan)).save(tmp_path / "x.inversion")
    with pytest.raises(InversionError, match="damaged"):
        Inversion.load(path)


@pytest.mark.parametrize(
    "facts", ["[" * 100_000, {"steps": "abc"}, {"delta_kinds": 3}, {"metrics": None}, {"version": []}]
)
def test_strange_facts_are_refused_in_one_sentence(tmp_path, facts):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = some_inversion().save(tmp_path / "face.inversion")
    with safe_open(path, "pt") as stream:
        own = json.loads(stream.metadata()["wplus"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    save_file(tensors, path, {"wplus": facts if isinstance(facts, str) else json.dumps(own | facts)})
    with pytest.raises(InversionError, match=r"^face\.inversion"):
        Inversion.load(path)


@pytest.mark.parametrize("deltas", [(500, 1, 1, 1, 1), (0, 3), ()])
def test_offsets_are_of_one_picture(tmp_path, deltas):
    path = some_inversion(deltas={"b8.conv": Delta("mul", (torch.zeros(deltas),))}).save(tmp_path / "face.inversion")
    with pytest.raises(InversionError, match="offsets are damaged"):
        Inversion.load(path)


@pytest.mark.parametrize("quad", [np.zeros((4, 2)), np.arange(8.0).reshape(4, 2), np.ones((3, 2)),
                                  np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) * 1e9])  # fmt: skip
def test_a_quad_that_spans_no_area_is_refused(tmp_path, quad):
    path = some_inversion(quad=quad).save(tmp_path / "face.inversion")
    with pytest.raises(InversionError, match="geometry is damaged"):
        Inversion.load(path)


def test_another_family_never_fits_and_another_member_only_with_transfer():
    inversion = some_inversion()
    assert inversion.require("tiny-16", "a" * 64) is inversion
    assert inversion.require("tiny-16", "c" * 64, transfer=True) is inversion
    with pytest.raises(InversionError, match="transfer"):
        inversion.require("tiny-16", "c" * 64)
    with pytest.raises(InversionError, match="'tiny-16'.*'stylegan2-1024'"):
        inversion.require("stylegan2-1024", "a" * 64, transfer=True)


def test_a_failing_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WplusError, match="disk is full"):
        some_inversion().save(tmp_path / "face.inversion")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "nan", "many", None, True, pytest.param(10**400, id="huge")]
)
def test_a_strength_must_be_a_finite_number(value):
    with pytest.raises(UsageError, match=r"'smile'.*number"):
        Recipe.from_strengths({"smile": value})


def test_a_recipe_survives_json_and_cannot_be_changed():
    recipe = Recipe.from_strengths({"smile": 2, "age": -3.5}).about(some_inversion())
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert [step.strength for step in again.steps] == [2.0, -3.5]
    assert again.inversion.steps == 70 and again.inversion.threads == 2
    with pytest.raises(Exception, match="frozen"):
        again.version = 2
    longer = again.then(latent_step("yaw", 1))
    assert len(longer.steps) == 3 and len(again.steps) == 2


def test_a_plain_object_of_strengths_is_a_recipe():
    assert Recipe.from_json('{"smile": 2, "age": -1}') == Recipe.from_strengths({"smile": 2, "age": -1})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "null",
        '{"steps": 3}',
        '{"steps": [{"op": "latent", "colour": 1}]}',
        '{"steps": [], "version": 99}',
        '{"steps": [{"parameters": {"name": "smile", "strength": NaN}}]}',
        '{"smile": "very"}',
        pytest.param("[" * 100_000, id="deep"),
        '{"smile": NaN}',
        '{"steps": [{"parameters": {"name": "smile", "strength": "lots"}}]}',
        '{"steps": [{"parameters": {"name": "smile", "strength": null}}]}',
        pytest.param('{"steps": [{"op": "paint", "parameters": {"note": "\\ud800"}}]}', id="half a letter"),
        pytest.param('{"steps": [{"op": "x", "parameters": {"a": ' + "[" * 400 + "]" * 400 + "}}]}", id="nested"),
        pytest.param(Recipe(steps=[latent_step("smile", 1.0)] * 600).to_json(), id="long"),
        pytest.param(
            Recipe(
                steps=[latent_step("smile", 1.0).model_copy(update={"region": f"hair~{i}"}) for i in range(60)]
            ).to_json(),
            id="many regions",
        ),
    ],
)
def test_broken_recipes_are_usage_errors_in_one_line(text):
    with pytest.raises(UsageError) as caught:
        Recipe.from_json(text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_identity_is_about_strengths_not_about_steps():
    assert Recipe().is_identity
    assert Recipe.from_strengths({"smile": 0, "age": 0.0}).is_identity
    assert not Recipe.from_strengths({"smile": 0, "age": 0.1}).is_identity
    assert not Recipe(steps=(Step(op="sketch"),)).is_identity


def test_no_face_is_in_a_recipe():
    text = Recipe.from_strengths({"smile": 2}).about(some_inversion()).to_json()
    assert set(json.loads(text)) == set(Recipe.model_fields)
    assert "ws" not in text and "quad" not in text and "landmarks" not in text


def test_its_size_is_about_that_of_its_file(tmp_path):
    ws, maps = torch.zeros(1, 16, 512), torch.zeros(1, 8, 64, 64)
    feature = FeatureEdit(maps, torch.ones(1, 1, 64, 64), ws, basis=torch.zeros(1, 32, 8))
    delta = Delta("lowrank", (torch.zeros(1, 64, 4), torch.zeros(1, 4, 64)))
    made = Inversion(ws=ws, family="f", deltas={"a": delta}, features={"b64": feature})
    assert made.nbytes == 4 * (2 * 8192 + 8 * 4096 + 4096 + 256 + 512)
    assert made.nbytes == pytest.approx(made.save(tmp_path / "a.inversion").stat().st_size, rel=0.02)
    assert made.compact().nbytes < made.nbytes
