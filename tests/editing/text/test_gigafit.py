"""Training the GigaGAN head on the latents: its losses by their formulas, what sentences mean, and steps that learn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from editing.heads.actions import Actions
from editing.judges.judge import NAMES
from editing.text import giga, gigacritics, gigadata, gigafit
from editing.text.captions import Caption
from editing.text.poles import load as poles
from stylegan2 import engine

INF = float("inf")
AGE, SMILE, MALE = (NAMES.index(name) for name in ("age", "smile", "male"))


def test_what_lies_outside_of_what_was_said():
    low, high = torch.tensor([[0.0, -INF, 1.0], [-INF, -INF, -INF]]), torch.tensor([[INF, INF, 2.0], [INF, INF, INF]])
    found = torch.tensor([[0.1, 50.0, 1.5], [7.0, 7.0, 7.0]])
    off = gigafit.INSIDE - 0.1  # the second is not spoken of, the third lies well between its ends
    torch.testing.assert_close(gigafit.outside(found, low, high), torch.tensor([off**2 / 2 / 2, 0.0]))
    below, above = (gigafit.outside(torch.tensor([[9.0, 0, v]]), low[:1], high[:1]) for v in (1.0, 2.0))
    torch.testing.assert_close(below, above)
    assert below.item() == pytest.approx(0.35**2 / 2 / 2)


def test_of_whom_a_sentence_is_true():
    low, high = torch.tensor([0.0, -INF]), torch.tensor([1.0, INF])
    scores = torch.tensor([[0.5, torch.nan], [1.5, 0], [torch.nan, 0], [0, 0]])
    assert gigafit.holds(scores, low, high).tolist() == [True, False, False, True]


def test_the_contrast_leaves_out_true_sentences_of_others():
    faces, sentences = (F.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(i))) for i in (0, 1))
    scores = torch.tensor([[0.0], [1.0], [1.1]])  # the second and third sentences are true of both their faces
    low, high = torch.tensor([[-0.5], [0.5], [0.5]]), torch.tensor([[0.5], [INF], [INF]])
    logits = faces @ sentences.T / gigafit.SHARP
    logits[1, 2] = logits[2, 1] = -INF
    wanted = -(logits.log_softmax(1).diag().mean() + logits.log_softmax(0).diag().mean()) / 2
    torch.testing.assert_close(gigafit.contrasted(faces, sentences, scores, low, high), wanted)


def test_steepness_is_the_squared_slope():
    x = torch.randn(4, 5).requires_grad_()
    assert gigafit.steepness((3 * x).sum(), [x]).item() == pytest.approx(5 * 9)


def test_what_a_sentence_says_of_judges():
    low, high, free = gigadata.bounds(Caption("a smiling boy", ("smiling",), True))
    seen = poles()["smiling"].seen["smile"]
    assert (low[SMILE], high[SMILE]) == pytest.approx(seen) and (low[MALE], high[MALE]) == (2.0, np.inf)
    assert low[AGE] == 0 and high[AGE] < 19  # the noun
    quiet = [NAMES.index(name) for name in ("yaw", "background_light")]
    assert np.isinf(low[quiet]).all() and not free[quiet].any()
    assert free[SMILE] and free[NAMES.index("teeth")] and free[NAMES.index("hair_long")]  # along with smile; with male
    low, high, free = gigadata.bounds(Caption("somebody old", ("elderly",), None))
    assert (low[AGE], high[AGE]) == (62, 100) and np.isinf(low[MALE])


def test_codes_are_faces_then_moved_ones():
    rng = np.random.default_rng(0)
    faces = {"w": rng.standard_normal((3, 512)), "scores": rng.standard_normal((3, len(NAMES)))}
    vectors = torch.zeros(1, 16, 512)
    vectors[:, 4:9] = 1
    moves = {"face": np.array([2, 0]), "amounts": np.array([[0.5], [-1.0]]), "scores": np.zeros((2, len(NAMES)))}
    codes = gigadata.codes_of(faces, moves, Actions(["one"], vectors, torch.ones(1, 2)))
    assert len(codes) == 5 and codes.face.tolist() == [0, 1, 2, 2, 0]
    w = torch.from_numpy(faces["w"]).float()
    torch.testing.assert_close(codes.ws[3, 0], w[2])
    torch.testing.assert_close(codes.ws[3, 5], w[2] + 0.5)
    torch.testing.assert_close(codes.ws[4, 8], w[0] - 1)


def test_components_of_features_and_back():
    torch.manual_seed(0)
    x = torch.einsum("bkhw,kc->bchw", torch.randn(6, 3, 8, 8), torch.randn(3, 20)) + torch.randn(20, 1, 1)
    stage = giga.Stage.of(x, 3)
    y = stage(x)
    torch.testing.assert_close(y.square().mean((0, 2, 3)), torch.ones(3), rtol=1e-3, atol=1e-3)
    back = torch.einsum("cp,bphw->bchw", stage.units, y) + stage.mean[:, None, None]
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------- steps


class First(nn.Module):
    """Reads one judge: the first component of the view."""

    def forward(self, *inputs):
        return inputs[-1][:, :1]


@pytest.fixture
def known(mobile, monkeypatch):
    """Two sentences, one for each side of a judge, about codes that are so; no encoder, no judge."""
    monkeypatch.setattr(gigafit, "BATCH", {"codes": 16, "features": 2})
    ws = engine.broadcast(mobile, engine.latents(mobile, range(24), 0.8)).clone()
    scores = gigacritics.view(ws)[:, :1]
    torch.manual_seed(0)
    hidden = [torch.randn(4, 384).half(), torch.randn(6, 384).half()]
    above = scores[:, 0] > 0
    low = torch.where(above[:, None], 0.0, -INF)
    high = torch.where(above[:, None], INF, 0.0)
    said = gigadata.Said(
        np.arange(24), ["above" if one else "below" for one in above], [hidden[int(one)] for one in above], low, high,
        torch.ones(24, 1),
    )  # fmt: skip
    codes = gigadata.Codes(ws, scores.numpy(), np.arange(24))
    stages = gigadata.Stages.of(mobile, ws[:4])
    with torch.no_grad():
        seen = stages(gigadata.drawn(mobile, ws))
    cache = {name: x.half().numpy() for name, x in seen.items()}
    return gigafit.Known(mobile, codes, scores, said, stages, cache, [First()], First())


def test_the_head_learns_what_sentences_ask_for(known):
    trainer = gigafit.Trainer(known)
    losses = [trainer.step(False)["said"] for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_critics_learn_which_sentence_belongs_to_whom(known):
    trainer = gigafit.Trainer(known)
    for group in trainer.adam.param_groups:
        group["lr"] = 0.0
    for _ in range(80):
        trainer.step(False)
    batch = gigafit.some(known.said, np.arange(24))
    above, shift = batch.low[:, 0].isfinite(), 1
    with torch.no_grad():
        right, wrong = trainer.judged("codes", trainer.real("codes", batch), trainer.token("codes", batch), shift)
    other = above != above.roll(shift)
    assert (right[0] - wrong[0])[other].mean() > 0.1


def test_first_codes_learn_then_the_adapter_alone(known):
    trainer = gigafit.Trainer(known)

    def moved(network, step):
        before = {name: x.clone() for name, x in network.named_parameters()}
        step()
        return {name for name, x in network.named_parameters() if not torch.equal(x, before[name])}

    for _ in range(2):  # what begins as nothing moves first, then what is before it
        assert {"gan", "match", "said", "kept", "small"} <= trainer.step(False).keys()
    codes = {name for name, _ in trainer.head.named_parameters() if not name.startswith("adapter")}
    assert moved(trainer.head, lambda: trainer.step(False)) >= codes - {n for n in codes if "tower.layers.1" in n}
    trainer.rest()
    assert torch.equal(trainer.head.mapping.out.weight, trainer.mean.mapping.out.weight)
    for _ in range(2):
        assert {"gan", "match", "read", "still"} <= trainer.step(True).keys()
    adapter = {name for name, _ in trainer.head.named_parameters() if name.startswith("adapter")}
    assert moved(trainer.head, lambda: trainer.step(True)) == adapter
    features = {name for name, _ in trainer.critics["features"].named_parameters()}
    assert moved(trainer.critics["features"], lambda: trainer.step(True)) == features


def test_a_drawn_face_is_what_the_generator_draws_with_the_residual(known, mobile):
    trainer = gigafit.Trainer(known)
    trainer.head.adapter.gate.data.fill_(0.5)
    batch = gigafit.some(known.said, np.arange(2))
    with torch.no_grad():
        made = trainer.made(batch, np.array([3, 4]), True)
        edit = giga.FeatureEdit(
            made["residual"], torch.ones(2, 1, 16, 16), made["ws"], basis=trainer.head.stage.units.expand(2, -1, -1)
        )
        seen = known.stages["b32"](mobile.synthesis(made["ws"], features={giga.DOOR: edit}, until="b32"))
        plain = known.stages["b32"](mobile.synthesis(made["ws"], until="b32"))
    torch.testing.assert_close(made["b32"], seen, rtol=1e-3, atol=1e-3)
    assert (made["b32"] - plain).abs().max() > 0.1


def test_training_goes_on_where_it_was(known, tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def ticking():
        clock.now += 1.0
        return clock.now

    monkeypatch.setattr(gigafit.time, "monotonic", ticking)
    file = tmp_path / "state.pt"
    first = gigafit.Trainer(known)
    gigafit.train(first, 5 / 60, file)
    assert first.steps > 0
    second = gigafit.Trainer(known, seed=0)
    gigafit.train(second, 5 / 60, file)  # the time is over
    assert second.steps == first.steps
    for a, b in zip(first.head.parameters(), second.head.parameters(), strict=True):
        assert torch.equal(a, b)
    gigafit.train(second, 12 / 60, file)
    assert second.steps > first.steps


def test_a_reader_learns_and_is_told_how_well():
    torch.manual_seed(0)
    views = torch.zeros(1000, len(gigacritics.GROUPS) * giga.PARTS)
    views[:, :3] = torch.randn(1000, 3)
    scores = torch.stack([views[:, 0], torch.randn(1000)], 1)  # the second cannot be known
    scores[::2, 0] = torch.nan
    codes = SimpleNamespace(face=np.arange(1000) // 2)
    reader = gigacritics.CodeReader(2, 32)
    shares = gigacritics.fit_reader(
        reader, lambda some, noisy: (views[torch.from_numpy(some)],), scores, codes, 400, 64, report=lambda line: None
    )
    assert shares[0] > 0.8 and shares[1] < 0.2
