"""The four variants of GAN-CLS: their losses, what is drawn for them, and that each learns what its name says."""

import pytest
import torch
import torch.nn.functional as F

from editing.text import adversarial, generators, pairing
from editing.text.adversarial import Pairs, Sampler
from editing.text.bridge import LatentBridge
from editing.text.bridging import Data
from editing.text.generators import between
from stylegan2.errors import UsageError
from tests.editing.text.toys import COMPONENTS, SENTENCE, WIDE, found

SPACE = 8


@pytest.fixture(scope="module")
def bridge():
    torch.manual_seed(0)
    made = LatentBridge(WIDE, COMPONENTS, width=16, space=SPACE, sentence=SENTENCE)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pairs(bridge):
    data, _ = found(400)
    bridge.whitening.load_state_dict(data.whitening.state_dict())
    noise = data.whitening.mean + torch.randn(3000, WIDE, generator=torch.Generator().manual_seed(4)) * torch.linspace(
        3, 0.3, WIDE
    )
    return adversarial.pairs(data, bridge, noise)


def bce(logits, wanted):
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, wanted))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_matchers_loss_is_the_papers(weight):
    right, wrong, made = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    expected = bce(right, 1.0) + weight * bce(wrong, 0.0) + (1 - weight) * bce(made, 0.0)
    torch.testing.assert_close(adversarial.matcher_loss(right, wrong, made, weight), expected)


def test_the_makers_loss_is_over_sentences_and_their_means():
    t = F.normalize(torch.randn(6, SPACE, generator=torch.Generator().manual_seed(0)), dim=1)
    more = adversarial.asked(t, True)
    assert more.shape == (9, SPACE) and torch.equal(more[:6], t)
    torch.testing.assert_close(more[7], F.normalize(t[1] + t[4], dim=0))
    assert adversarial.asked(t, False) is t
    logits = torch.randn(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(adversarial.maker_loss(logits), bce(logits, 1.0))


def test_means_of_sentences():
    a, b = F.normalize(torch.randn(2, 3, SPACE, generator=torch.Generator().manual_seed(2)), dim=2)
    torch.testing.assert_close(between(a, b, 0.0), a)
    torch.testing.assert_close(between(a, b, 1.0), b)
    torch.testing.assert_close(between(a, b, 0.5), between(b, a, 0.5))


def test_right_pairs_fit_and_wrong_pairs_do_not(pairs):
    draws = Sampler(pairs, seed=0)
    faces, texts = draws.rightly(500)
    fit, _ = pairing.fitting(pairs.misfit, pairs.mentions)
    assert fit[faces, texts].all()
    strangers, wrong = draws.wrongly(texts)
    far = (pairs.misfit[strangers] * pairs.mentions[wrong]).amax(1) > pairing.NEAR
    assert far.float().mean() > 0.97
    assert (wrong[250:] == texts[250:]).all()  # the right text with another face
    opposed = {tuple(pair) for pair in pairs.opposed.tolist()}
    assert all(pair in opposed for pair in zip(strangers[:250].tolist(), wrong[:250].tolist(), strict=True))


def test_moved_faces_are_paired_with_sentences_that_fit(pairs, bridge):
    data, _ = found(400)
    moved = Data(data.x, data.scores, data.misfit, data.claims, data.whitening, 300)  # the last hundred as moved ones
    made = adversarial.pairs(moved, bridge, pairs.noise[:10] @ torch.randn(COMPONENTS, WIDE))
    codes, texts = made.right.unbind(1)
    more = codes >= 300
    per_code = codes[more].bincount(minlength=400)[300:]
    fit, _ = pairing.fitting(made.misfit, made.mentions)
    assert ((per_code >= adversarial.FITTING) == fit[300:].any(1)).all() and (per_code > 0).sum() > 80
    assert fit[codes[more], texts[more]].all()


def test_variants_differ_in_what_they_are_named_for(pairs, bridge, monkeypatch):
    weights, counts = [], []

    def judged(right, wrong, made, weight):
        weights.append(weight)
        return (right + wrong + made).mean() * 0

    def fooled(made):
        counts.append(len(made))
        return made.mean() * 0

    monkeypatch.setattr(adversarial, "matcher_loss", judged)
    monkeypatch.setattr(adversarial, "maker_loss", fooled)
    for kind in generators.VARIANTS:
        adversarial.fit(pairs, bridge, kind, steps=1, batch=8)
    assert weights == [0.0, 0.5, 0.0, 0.5] and counts == [8, 8, 12, 12]
    with pytest.raises(UsageError, match="int-cls"):
        adversarial.fit(pairs, bridge, "wgan", steps=1)


def share(family, pairs, seed=9):
    """Of what is made for sentences of one claim: how much of it fits."""
    draws = Sampler(pairs, seed)
    _, texts = draws.rightly(800)
    texts = texts[pairs.mentions[texts].sum(1) == 1]
    with torch.no_grad():
        u = draws.noise(len(texts))
        x = adversarial.seen(u, family.maker(u, pairs.t[texts])).unflatten(1, (3, -1)).mean(1)
    outside = torch.stack([0.3 - x[:, 0], x[:, 0] + 0.3, 0.3 - x[:, 1], x[:, 1] + 0.3], 1).clamp(min=0)
    spread = x.std(0)
    return float((outside * pairs.mentions[texts]).sum(1).eq(0).float().mean()), spread


def test_it_learns_to_make_what_is_said(pairs, bridge, monkeypatch):
    monkeypatch.setattr(adversarial, "RATE", 2e-3)
    before, _ = share(adversarial.fit(pairs, bridge, "int-cls", steps=1), pairs)
    after, spread = share(adversarial.fit(pairs, bridge, "int-cls", steps=500, batch=48), pairs)
    assert before < 0.5 and after > before + 0.25, (before, after)
    assert (spread[2:] > 0.5).all()  # what nobody speaks of stays as various as it was


def test_the_same_seed_gives_the_same_maker(pairs, bridge):
    first, again, other = (adversarial.fit(pairs, bridge, "int", steps=3, seed=s).maker.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_pairs_hold_what_the_bridge_says(pairs, bridge):
    assert isinstance(pairs, Pairs) and pairs.t.shape[1] == SPACE
    torch.testing.assert_close(pairs.t.norm(dim=1), torch.ones(len(pairs.t)))
    assert pairs.noise.mean().abs() < 0.2 and 0.8 < pairs.noise.std() < 1.2
