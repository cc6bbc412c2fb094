"""Latent heads: files, names, what they move and what they leave, in recipes and on the command line."""

import json

import numpy as np
import pytest
import torch

from editing import batch, edit, plans, sheets, steps
from editing.batching import planning, strengths
from editing.heads import registry
from editing.heads.actions import MERGED, Actions, moved
from editing.heads.response import COMPONENTS, Whitening
from editing.heads.translators import Family, Head, StarTranslator, Translator, load, save, with_label
from editing.types import Inversion, Recipe, latent_step
from stylegan2.errors import UsageError, WplusError

WAYS = ("a2b", "b2a")
LABELS, GROUPS = ["dark", "blond", "glasses"], [["dark", "blond"]]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def family(kind, rows=MERGED):
    """Untrained, but not at rest."""
    torch.manual_seed(1)
    actions = Actions(["one", "two"], drawn(2, rows, 512), torch.tensor([[-1.0, 2.0], [-3.0, 3.0]]))
    whitening = Whitening.of(drawn(200, 512))
    star = kind == "stargan"
    made = {way: StarTranslator(2, 3, 8) if star else Translator(2, width=8) for way in (("all",) if star else WAYS)}
    for translator in made.values():
        for parameter in translator.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        (translator.inner if star else translator).limits.copy_(actions.limits)
        translator.eval().requires_grad_(False)
    regions = dict.fromkeys(WAYS, "hair~2") if kind == "instagan" else {}
    return Family(kind, whitening, actions, made, *((LABELS, GROUPS) if star else ((), ())), regions=regions)


@pytest.fixture
def shipped(registered):
    """Two toy files in place of the shipped ones."""
    for kind in ("cyclegan", "stargan"):
        save(family(kind), registered / f"{kind}.safetensors")
    return registered


def test_a_file_gives_back_what_went_into_it(tmp_path):
    for kind in ("cyclegan", "stargan", "instagan"):
        made, path = family(kind), tmp_path / f"{kind}.safetensors"
        save(made, path)
        heads = load(path)
        assert list(heads) == made.names
        ws = drawn(2, 18, 512)
        for name, head in heads.items():
            expected = Head(name, made)(ws)
            torch.testing.assert_close(head(ws), expected, rtol=0.02, atol=0.02)  # float16


def test_an_instances_head_says_where_it_is_seen(shipped):
    save(family("instagan"), shipped / "instagan.safetensors")
    registry.heads.cache_clear()
    step = latent_step("instagan:a2b", 1.0)
    assert step.region is None and steps.region_of(step) == "hair~2"
    assert steps.region_of(step.model_copy(update={"region": "lips"})) == "lips"
    assert steps.region_of(latent_step("cyclegan:a2b", 1.0)) is None
    inversion = Inversion(drawn(1, 18, 512), "x")
    bottom, hair = steps.layers(inversion, [step], {})
    assert bottom.inversion is inversion and (hair.region, hair.inversion is inversion) == ("hair~2", False)


def test_names_say_what_heads_do(shipped):
    assert list(registry.heads()) == [
        "cyclegan:a2b", "cyclegan:b2a", "stargan:+dark", "stargan:+blond", "stargan:+glasses", "stargan:-glasses",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="cyclegan:a2b"):
        registry.find("cyclegan:a2c")


def test_amounts_stay_within_what_moves_were_learned_between(shipped):
    for head in registry.heads().values():
        low, high = head.family.actions.limits.T
        found = torch.cat([head.amounts(size * drawn(64, MERGED, 512)) for size in (0.3, 2, 50)])
        assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all() and found.abs().max() > 0.1


def test_the_surer_a_label_is_there_the_less_is_moved(shipped):
    ws = 3 * drawn(400, MERGED, 512)
    star = registry.find("stargan:+glasses").family
    probabilities = star.translators["all"].labels(star.whitening.view(ws), star.columns)
    torch.testing.assert_close(probabilities[:, :2].sum(1), torch.ones(400))  # of hair colours one
    for name in ("+glasses", "-glasses", "+dark", "+blond"):
        column, wanted = LABELS.index(name[1:]), float(name[0] == "+")
        there = probabilities[:, column] if wanted else 1 - probabilities[:, column]
        amounts = registry.find(f"stargan:{name}").amounts(ws).abs().sum(1)
        assert amounts[there > 0.8].mean() < 0.5 * amounts[there < 0.5].mean()


def test_labels_that_are_set():
    labels = torch.tensor([[0.6, 0.4, 0.3], [0.1, 0.9, 0.7]])
    found = with_label(labels, torch.tensor([1, 2]), torch.tensor([1.0, 0.0]), [[0, 1]])
    assert found.tolist() == [[0, 1, pytest.approx(0.3)], [pytest.approx(0.1), pytest.approx(0.9), 0]]
    assert labels[0, 0] == pytest.approx(0.6)


def test_colours_that_are_read_are_one_in_all():
    star = family("stargan").translators["all"]
    x = 200 * drawn(50, 3 * COMPONENTS)  # so far out that every logit is
    found = star.labels(x, [[0, 1]])
    torch.testing.assert_close(found[:, :2].sum(1), torch.ones(50))
    torch.testing.assert_close(found[:, 2], star.labels(x)[:, 2])


def test_stargans_files_of_earlier_versions_are_refused(tmp_path):
    """They were trained for labels read as 0 or 1."""
    made = family("stargan")
    made.translators["all"].reader = torch.nn.Linear(3 * COMPONENTS, 3)
    save(made, tmp_path / "old.safetensors")
    with pytest.raises(UsageError, match="earlier version"):
        load(tmp_path / "old.safetensors")


def test_a_move_spreads_over_rows_that_the_default_generator_merges():
    vectors, ws = drawn(1, MERGED, 8), torch.zeros(1, 18, 8)
    out = moved(ws, torch.tensor([[2.0]]), vectors)
    torch.testing.assert_close(out[0, :MERGED], 2 * vectors[0])
    torch.testing.assert_close(out[0, MERGED:], 2 * vectors[0, -1:].expand(2, -1))
    with pytest.raises(UsageError, match="16 rows"):
        moved(torch.zeros(1, 8, 8), torch.tensor([[2.0]]), vectors)


def test_codes_of_other_generators_are_refused(shipped):
    for shape in ((1, 8, 512), (1, 18, 64)):
        with pytest.raises(UsageError, match="16 rows or more of 512"):
            registry.find("cyclegan:a2b")(torch.zeros(shape))


def test_a_step_of_a_recipe(shipped):
    inversion = Inversion(drawn(1, MERGED, 512), "mobile", deltas={"x": "kept"})
    step = latent_step("cyclegan:a2b", 0.5)
    before = inversion.ws.clone()
    result = steps.apply_step(inversion, step, {})
    expected = before + 0.5 * (registry.find("cyclegan:a2b")(before) - before)
    torch.testing.assert_close(result.ws, expected)
    assert result.deltas == inversion.deltas and torch.equal(inversion.ws, before)
    assert (
        steps.apply_step(inversion, step.model_copy(update={"parameters": {"name": "x:y", "strength": 0}}), {})
        is inversion
    )


def test_recipes_pin_the_file_that_a_head_came_from(shipped):
    step = latent_step("stargan:-glasses", 1)
    pinned = steps.pin(Recipe(steps=(step,)), {}).steps[0]
    assert pinned.direction_sha256 == registry.find("stargan:+dark").sha256
    steps.apply_step(Inversion(drawn(1, MERGED, 512), ""), pinned, {})
    other = pinned.model_copy(update={"direction_sha256": "0" * 64})
    with pytest.raises(UsageError, match="another version of 'stargan:-glasses'"):
        steps.pin(Recipe(steps=(other,)), {})
    unknown = step.model_copy(update={"parameters": {"name": "stargan:+wings", "strength": 1}})
    with pytest.raises(UsageError, match="wings"):
        steps.pin(Recipe(steps=(unknown,)), {})


def test_sets_know_heads_by_their_colon(shipped):
    first, second = plans.parse_sets(["cyclegan:a2b=0.7@hair", "smile=1"], 2)
    assert (first.op, first.region, first.face, first.strength) == ("head", "hair", 2, 0.7)
    assert second.op == "latent"
    with pytest.raises(UsageError, match="--disentangle"):
        plans.parse_sets(["cyclegan:a2b=1"], disentangle=True)
    assert "stargan:+glasses" in edit.list_edits(False)
    assert {"name": "cyclegan:a2b", "group": "heads"}.items() <= json.loads(edit.list_edits(True))[-6].items()
    assert sheets.in_files("cyclegan:a2b") == "cyclegan_a2b"


def test_folders_know_them_too(shipped, tmp_path):
    plan = batch.make_plan(["cyclegan:a2b=0.5@hair"], None, 0, False, None)
    assert [(step.op, step.region) for step in plan.recipe.steps] == [("head", "hair")] and not plan.sheets
    ranged = batch.make_plan(["stargan:+glasses=0:1:0.5"], None, 0, False, None)
    ((part,),) = ranged.sheets
    assert [planning.tag(value, part) for value in part.values] == [
        "stargan_+glasses+0.0", "stargan_+glasses+0.5", "stargan_+glasses+1.0",
    ]  # fmt: skip
    table = tmp_path / "table.csv"
    table.write_text("photo,smile,cyclegan:b2a\na.jpg,1,0.5\n")
    rows = strengths.read(table, ["a.jpg"], ["smile", *registry.heads()])
    assert [latent_step(*cell).op for cell in rows["a.jpg"].items()] == ["latent", "head"]


def test_files_that_hold_no_heads(tmp_path):
    from safetensors.torch import save_file

    plain = tmp_path / "plain.safetensors"
    save_file({"x": torch.zeros(2)}, plain)
    with pytest.raises(UsageError, match="holds no heads"):
        load(plain)
    text = tmp_path / "text.safetensors"
    text.write_text("no tensors")
    with pytest.raises(WplusError, match="cannot be read"):
        load(text)
    with pytest.raises(WplusError, match="cannot be read"):
        load(tmp_path / "missing.safetensors")
    facts = {"format": "wplus-heads-1", "kind": "cyclegan", "ways": ["a2b"], "actions": [], "labels": [], "groups": []}
    save_file({"x": torch.zeros(2)}, plain, metadata={"heads": json.dumps(facts)})
    with pytest.raises(UsageError, match="holds no heads"):
        load(plain)
    save_file({"x": torch.zeros(2)}, plain, metadata={"heads": "[]"})
    with pytest.raises(UsageError, match="holds no heads"):
        load(plain)


def test_whitening_has_mean_0_and_variance_1():
    w = drawn(500, 512) @ drawn(512, 512, seed=1) + 3
    u = Whitening.of(w)(w)
    assert u.shape == (500, COMPONENTS)
    np.testing.assert_allclose(u.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(u.var(0), 1, atol=0.02)
