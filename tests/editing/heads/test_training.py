"""Training latent heads, on faces whose judges are formulas."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from editing.heads import domains, fit, inverted, moves
from editing.heads.actions import FITTED, HELD, MERGED, ROWS, Actions, make, partial_regressions
from editing.heads.response import Whitening, table, taught, uneven
from editing.heads.response import fit as fit_response
from editing.heads.translators import Family, Head, Translator, save, with_label
from editing.judges.judge import NAMES
from editing.types import Inversion
from stylegan2.errors import UsageError

AGE = NAMES.index("age")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices: as fast with one, and the same sums on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world():
    """Age goes with one axis of w, hair with another; the descriptor with a third.  Two actions move age, one of them
    who somebody is, too."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((800, 512)).astype(np.float32) * 0.5
    w[:, :8] *= 4  # what varies most
    axes = np.eye(512, dtype=np.float32)

    def judged(w):
        scores = np.zeros((len(w), len(NAMES)), np.float32)
        scores += 0.1 * rng.standard_normal(scores.shape)
        scores[:, AGE] = 35 + 8 * w[:, 0]
        scores[:, NAMES.index("hair_light")] = 30 + 10 * w[:, 1]
        scores[:, NAMES.index("male")] = 5 * w[:, 3]
        descriptor = np.zeros((len(w), 128), np.float32)
        descriptor[:, 0] = 0.3 * w[:, 2]
        return scores, descriptor

    def rows(*pairs):
        return sum(size * np.tile(axes[axis], (MERGED, 1)) for axis, size in pairs)

    vectors = torch.from_numpy(np.stack([rows((0, 1.0)), rows((0, 1.0), (2, 1.5)), rows((1, 1.0))]).astype(np.float32))
    actions = Actions(["clean", "costly", "hair"], vectors, torch.tensor([[-4.0, 4.0]] * 3))
    amounts = rng.uniform(-4, 4, (1500, 3)).astype(np.float32) * (rng.random((1500, 3)) < 0.6)
    face = rng.integers(0, len(w), len(amounts))
    after = judged(w[face] + amounts @ vectors[:, 0].numpy())
    scores, descriptor = judged(w)
    faces = {"w": w, "scores": scores, "descriptor": descriptor}
    return faces, {"face": face, "amounts": amounts, "scores": after[0], "descriptor": after[1]}, actions


@pytest.fixture(scope="module")
def learned(world):
    faces, moved, actions = world
    data = table(faces, moved)
    return data, *fit_response(data, actions, steps=500)


def test_a_response_tells_what_moves_change(world, learned):
    _, response, explained = learned
    assert explained[AGE] > 0.9 and explained[-1] > 0.2  # age, and the distance of descriptors
    none = torch.zeros(5, 3)
    assert (response.change(torch.randn(5, 192), none) == 0).all()
    assert response.distance(torch.randn(5, 192), none).max() < 0.01
    assert response.lasting.min() >= 0 and response.lasting[NAMES.index("teeth")] < 0.2  # nothing but noise


def test_teachers_of_the_same_data_are_taught_once(world, tmp_path):
    faces, moved, actions = world
    data, told = table(faces, moved), []
    first = taught(data, actions, tmp_path, told.append, steps=2)
    again = taught(data, actions, tmp_path, told.append, steps=2)
    assert len(told) == len(first) == 3 and len(list((tmp_path / "teachers").iterdir())) == 3
    x, amounts = data.x[:5], torch.ones(5, 3)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.change(x, amounts), other.change(x, amounts)) and not one.training
    assert not torch.equal(first[0].change(x, amounts), first[1].change(x, amounts))
    more = replace(data, amounts=data.amounts + 1)
    taught(more, actions, tmp_path, told.append, steps=2)
    assert len(told) == 6  # other data


def test_cyclegan_goes_over_and_back_by_what_costs_least(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    pair = domains.PAIRS[("young", "old")]
    there, back = fit.cyclegan([response], data, faces["scores"], actions, pair, steps=400)
    young = torch.from_numpy(np.flatnonzero(pair.a.holds(faces["scores"])))
    x = data.x[young]
    with torch.no_grad():
        amounts = there(x)
        scores, _ = response(x, amounts)
        returned = back(response.moved(x, amounts))
        old = torch.from_numpy(np.flatnonzero(pair.b.holds(faces["scores"])))
        still = there(data.x[old])
    threshold = (pair.threshold - data.mean[AGE]) / data.std[AGE]
    assert (scores[:, AGE] > threshold).float().mean() > 0.9
    assert amounts[:, 0].mean() > 2 * amounts[:, 1].abs().mean()  # the clean way
    assert (amounts + returned).abs().mean() < 0.5 * amounts.abs().mean()
    assert still.abs().mean() < 0.35 * amounts.abs().mean()


def test_a_pair_may_do_without_partial_regressions(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    named = replace(actions, names=["clean", "age/coarse", "hair"])
    pair = replace(domains.PAIRS[("young", "old")], regressions=False)
    for maker in fit.cyclegan([response], data, faces["scores"], named, pair, steps=1):
        assert maker.limits[:, 1].tolist() == [4, 0, 4] and (maker(data.x[:9])[:, 1] == 0).all()


def test_stargan_sets_one_label_and_leaves_others(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    star = fit.stargan([response], data, faces["scores"], actions, steps=600)
    labels = torch.from_numpy(domains.labels_of(faces["scores"]))
    column = list(domains.LABELS).index("young")
    old = labels[:, column] == 0
    with torch.no_grad():
        believed = star.labels(data.x, domains.COLUMNS)
        wanted = believed.clone()
        wanted[:, column] = 1
        amounts = star(data.x, believed, wanted)
        scores, _ = response(data.x, amounts)
    sizes = amounts[:, :2].abs().sum(1)
    assert sizes[~old].mean() < 0.35 * sizes[old].mean()  # nearly nothing is to be done
    bound = (domains.LABELS["young"].bound - data.mean[AGE]) / data.std[AGE]
    assert (scores[old, AGE] < bound).float().mean() > 0.8
    assert amounts[old, 2].abs().mean() < 0.5 * amounts[old, :2].abs().sum(1).mean()  # hair stays


def test_a_head_does_what_its_translator_was_trained_to_do(world, learned):
    """What is believed of a face, the label that is asked for, and the way between, in training as in use."""
    faces, _, actions = world
    data, response, _ = learned
    star = fit.stargan([response], data, faces["scores"], actions, steps=30)
    family = Family("stargan", data.whitening, actions, {"all": star}, list(domains.LABELS), domains.GROUPS)
    ws = torch.from_numpy(faces["w"][:20])[:, None].expand(-1, MERGED, -1)
    believed = star.labels(data.x[:20], domains.COLUMNS)
    for name, column, value in (("+brown_hair", 1, 1.0), ("-glasses", 6, 0.0)):
        wish = with_label(believed, torch.full((20,), column), torch.full((20,), value), domains.COLUMNS)
        found = Head(f"stargan:{name}", family).amounts(ws)
        torch.testing.assert_close(found, star(data.x[:20], believed, wish))
        assert found.abs().max() > 0


def test_labels_that_are_read_have_a_loss_of_their_own(world):
    truth = torch.from_numpy(domains.labels_of(world[0]["scores"]))
    right, wrong = 8 * (truth - 0.5), 8 * (0.5 - truth)
    assert fit.read_loss(right, truth) < 0.1 < 2 < fit.read_loss(wrong, truth)
    shifted = right.clone()
    shifted[:, domains.COLUMNS[0]] += 5  # of colours only which is likeliest counts
    torch.testing.assert_close(fit.read_loss(shifted, truth), fit.read_loss(right, truth))


def test_labels_of_a_group_exclude_each_other(world):
    labels = domains.labels_of(world[0]["scores"])
    assert (labels[:, domains.COLUMNS[0]].sum(1) == 1).all() and (labels[:, domains.COLUMNS[0]].sum(0) > 0).all()


def test_what_is_asked_of_faces(world):
    truth = torch.from_numpy(domains.labels_of(world[0]["scores"]))
    believed = 0.8 * truth + 0.1
    wish, after, column = fit.asked(truth, believed, torch.Generator().manual_seed(0))
    rows = torch.arange(len(truth))
    assert (after[:, :3].sum(1) == 1).all() and set(column.tolist()) == set(range(truth.shape[1]))
    colour = column < 3
    assert (after[rows, column][colour] == 1).all() and (wish[rows, column] == after[rows, column]).all()
    assert (wish[colour, :3].sum(1) == 1).all()  # other colours give way
    others = torch.ones_like(truth, dtype=torch.bool).index_put_((rows, column), torch.tensor(False))
    others[colour, :3] = False
    assert (wish == believed)[others].all() and (after == truth)[others].all()
    already = (after == truth).all(1)[~colour].float().mean()
    assert abs(already - fit.ALREADY) < 0.08


def test_what_faces_are_like_is_what_is_read_and_what_lasts_of_what_judges_say(world, learned):
    data, response, _ = learned
    response = copy.deepcopy(response)
    rows, hair = torch.arange(40), NAMES.index("hair_light")
    found = replace(data, scores=data.scores.clone())
    found.scores[:20, hair] += 2
    found.scores[20:40, hair] = torch.nan
    read = response.read(data.x[rows])[:, : response.judges]
    for lasting, gained in ((0.0, 0.0), (0.5, 1.0), (1.0, 2.0)):
        response.lasting[hair] = lasting
        known = [fit.Sampler(table, np.arange(800)).known(response, rows)[:, hair] for table in (data, found)]
        torch.testing.assert_close((known[1] - known[0])[:20], torch.full((20,), gained))
        torch.testing.assert_close(known[1][20:], read[20:, hair])


def test_moves_of_inversions_do_less_where_they_were_seen_to(learned):
    """Rows of a generated face are one w, those of an inversion are not: what differs is how much is done."""
    data, response, _ = learned
    x, amounts = data.x[:30], torch.full((30, 3), 0.5)
    apart = x + 0.4 * torch.randn(30, 192, generator=torch.Generator().manual_seed(0))
    assert (uneven(x) == 0).all() and uneven(apart).min() > 0.6
    assert torch.equal(response.change(x, amounts, apart), response.change(x, amounts))  # nothing was seen to
    damped = copy.deepcopy(response)
    damped.damped[AGE] = -0.5
    share = damped.change(x, amounts, apart) / response.change(x, amounts)
    torch.testing.assert_close(share[:, AGE], torch.exp(-0.5 * uneven(apart)))
    assert (share[:, AGE + 1] == 1).all() and torch.equal(damped.change(x, amounts), response.change(x, amounts))


def test_signs_are_what_other_judges_tell_two_sides_by(learned):
    data, _, _ = learned
    hair, other = NAMES.index("hair_light"), NAMES.index("teeth")
    sides = [np.flatnonzero(data.scores[:, hair].numpy() * sign > 0.5) for sign in (-1, 1)]
    weights = fit.signs_of(data, sides, [hair, other])
    assert weights[hair] > 0.5 > 10 * abs(weights[other]) and (weights != 0).sum() == 2
    told = data.scores @ weights
    assert told[sides[0]].mean() < -0.7 and told[sides[1]].mean() > 0.7


def test_several_teachers_take_turns(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    asked = []

    class Told:
        def __init__(self, name):
            self.name = name

        def __getattr__(self, key):
            if key == "change":
                asked.append(self.name)
            return getattr(response, key)

    fit.cyclegan([Told("a"), Told("b")], data, faces["scores"], actions, domains.PAIRS[("young", "old")], steps=2)
    assert set(asked) == {"a", "b"} and asked[0] == "a" and asked[-1] == "b"


def test_too_few_faces_of_a_domain(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    scores = faces["scores"].copy()
    scores[:, AGE] = 20
    with pytest.raises(UsageError, match="only"):
        fit.cyclegan([response], data, scores, actions, domains.PAIRS[("young", "old")], steps=1)


def test_partial_regressions_hold_the_others():
    """Two judges go together in the population; each has an axis of w of its own."""
    rng = np.random.default_rng(1)
    names = [*FITTED, *HELD]
    scores = rng.standard_normal((4000, len(names)))
    scores[:, 1] = 0.8 * scores[:, 0] + 0.6 * scores[:, 1]
    w = np.zeros((4000, 512))
    w[:, : len(names)] = scores
    found = partial_regressions({"scores": scores.astype(np.float32), "w": w}, names)
    for i, name in enumerate(FITTED):
        expected = np.zeros(512)
        expected[i] = scores[:, i].std()
        np.testing.assert_allclose(found[name], expected, atol=1e-3)


def test_actions_and_random_moves():
    rng = np.random.default_rng(2)
    samples = {
        "scores": rng.standard_normal((500, len(NAMES))).astype(np.float32),
        "w": rng.standard_normal((500, 512)),
    }
    actions = make(samples, list(NAMES))
    assert len(actions.names) == len(set(actions.names)) == len(actions.vectors) == len(actions.limits)
    low, high = actions.limits.numpy().T
    for together in (False, True):
        for number in range(200):
            amounts = moves.amounts(actions, number, together)
            assert (amounts >= low - 1e-6).all() and (amounts <= high + 1e-6).all() and amounts.any()
            assert (amounts == moves.amounts(actions, number, together)).all()
            if not together:
                assert (amounts != 0).sum() <= moves.MOST
    grouped = moves.amounts(actions, 3, True)
    rows = [[actions.names.index(f"{name}/{part}") for part in ROWS] for name in FITTED]
    assert any(np.abs(grouped[row]).min() > 0 and np.ptp(np.sign(grouped[row])) == 0 for row in rows)


def a_family(actions):
    """'a2b' moves, 'b2a' has nothing to do."""
    torch.manual_seed(0)
    made = {way: Translator(len(actions), width=8) for way in ("a2b", "b2a")}
    torch.nn.init.normal_(made["a2b"].net[-1].bias)
    for translator in made.values():
        translator.limits.copy_(actions.limits)
    return Family("cyclegan", Whitening.of(torch.randn(200, 512)), actions, made)


def test_moves_that_heads_make(tmp_path):
    """What a head would do, weaker or stronger, here and there without one of its actions; the same every time."""
    actions = Actions(["a", "b"], torch.randn(2, MERGED, 512), torch.tensor([[-1.0, 1.0]] * 2))
    save(a_family(actions), tmp_path / "heads.safetensors")
    heads, found = moves.known_heads([tmp_path / "heads.safetensors"])
    assert list(found.names) == ["a", "b"] and len(heads) == 2
    for other in (replace(actions, names=["a", "c"]), replace(actions, vectors=2 * actions.vectors)):
        with pytest.raises(UsageError, match="other actions"):
            moves.known_heads([tmp_path / "heads.safetensors"], other)
    ws = torch.randn(1, MERGED, 512)
    whole = heads[0].amounts(ws)[0].numpy()
    made = np.stack([moves.led(heads, ws, number) for number in range(300)])
    assert (made == np.stack([moves.led(heads, ws, number) for number in range(300)])).all()
    shares = made / whole
    kept = shares != 0
    assert 0.75 < kept.mean() < 0.95 and shares[kept].min() >= 0.4 and shares[kept].max() <= 1.3 + 1e-6


def test_inverted_faces_are_read_behind_generated_ones(world, tmp_path):
    faces, moved, _ = world
    rng, judges = np.random.default_rng(4), len(NAMES)
    for start in (0, 10):
        scores = np.tile(start + np.arange(10.0)[:, None], (1, judges))
        part = {
            "ws": rng.standard_normal((10, MERGED, 512)), "scores": scores,
            "descriptor": np.zeros((10, 128)), "face": np.repeat(np.arange(10), 2), "amounts": np.zeros((20, 3)),
            "moved_scores": np.repeat(scores, 2, 0) + 1, "moved_descriptor": np.ones((20, 128)),
        }  # fmt: skip
        part["descriptor"][3] = np.nan  # no face was found
        part["moved_descriptor"][0] = np.nan
        np.savez(tmp_path / f"{start}.npz", **part)
    more, after = inverted.load(tmp_path)
    assert len(more["ws"]) == 18 and len(after["face"]) == 2 * (20 - 2 - 1)
    assert (after["scores"][:, 0] - more["scores"][after["face"], 0] == 1).all()  # each move with its face
    data = table(faces, moved, (more, after))
    count = len(faces["w"])
    assert data.generated == count and len(data.x) == count + 18 and len(data.face) == len(moved["face"]) + 34
    assert data.face.max() == count + 17
    torch.testing.assert_close(data.x[count], data.whitening.view(torch.from_numpy(more["ws"][:1]).float())[0])
    torch.testing.assert_close(data.scores[count:], (torch.from_numpy(more["scores"]).float() - data.mean) / data.std)
    sampler = fit.Sampler(data, np.arange(len(data.x)))
    rows, few = sampler.rows(), 18 // fit.OFTEN  # none is drawn again and again
    assert len(rows) == fit.BATCH and (rows[-few:] >= count).all() and (rows[:-few] < count).all()
    off = (sampler.glimpse(data.x[rows]) - data.x[rows]).square().mean(1).sqrt()
    assert abs(off[-few:].mean() - fit.BLURRED) < 0.05 and off[:-few].std() > 0.1
    none = fit.Sampler(data, np.arange(len(data.x)), inverted=0).rows()
    assert (none < count).all() and len(none) == fit.BATCH
    with pytest.raises(UsageError, match="editing.heads.inverted"):
        inverted.load(tmp_path / "none")


def test_inverted_faces_are_moved_and_judged(monkeypatch, tmp_path):
    """Of two faces the second is not found: it has no moves, and a file of it alone can be read, too."""
    actions = Actions(["a", "b"], torch.ones(2, MERGED, 512), torch.tensor([[-1.0, 1.0]] * 2))
    heads = [Head("cyclegan:a2b", a_family(actions))]

    def inverted_by(generator, image):
        return Inversion(image.mean() * torch.ones(1, MERGED, 512), "toy")

    def judged(generator, inversion):
        level = float(inversion.ws[0, 0, 0])
        return [level] * len(NAMES), np.full(128, level if level > -0.9 else np.nan)

    def faces(generator, seeds, psi):
        return ((seed, None, np.full((8, 8, 3), 200 if seed == 5 else 0, np.uint8)) for seed in seeds)

    monkeypatch.setattr(inverted, "STRATEGIES", {"hyper": inverted_by})
    monkeypatch.setattr(inverted, "judged", judged)
    monkeypatch.setattr(inverted.engine, "faces", faces)
    monkeypatch.setattr(inverted.moves, "amounts", lambda *_: np.array([0.5, 0.0], np.float32))
    for start in (5, 6):
        np.savez(tmp_path / f"{start}.npz", **inverted.shard(None, actions, heads, range(start, start + 2)))
    found, after = inverted.load(tmp_path)
    assert len(found["ws"]) == 1 and after["amounts"].shape == (inverted.MOVES, 2) and (after["face"] == 0).all()
    assert (after["amounts"][::2] == [0.5, 0.0]).all()  # every other move is a head's
    np.testing.assert_allclose(after["scores"][:, 0], found["scores"][0, 0] + after["amounts"].sum(1), atol=1e-5)


def test_moves_are_kept_in_files(tmp_path):
    rng = np.random.default_rng(3)
    actions = Actions(["a", "b"], torch.randn(2, MERGED, 512), torch.tensor([[-1.0, 1.0]] * 2))
    moves.save(actions, tmp_path / "actions.safetensors")
    back = moves.load_actions(tmp_path / "actions.safetensors")
    assert list(back.names) == ["a", "b"] and torch.equal(back.vectors, actions.vectors)
    with pytest.raises(UsageError, match="editing.heads.moves"):
        moves.load(tmp_path)
    with pytest.raises(UsageError, match="missing"):
        moves.load_actions(tmp_path / "nothing.safetensors")
    descriptor = rng.standard_normal((4, 128)).astype(np.float32)
    descriptor[1] = np.nan  # no face was found
    np.savez(
        tmp_path / "0.npz", face=np.arange(4), amounts=np.zeros((4, 2)), scores=np.zeros((4, 3)), descriptor=descriptor
    )
    assert moves.load(tmp_path)["face"].tolist() == [0, 2, 3]
