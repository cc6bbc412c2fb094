"""The encoder as a strategy: corrections, warm starts, and a generator that it does not fit."""

import pytest
import torch

from editing.inversion import Budget, encoding, latent
from editing.inversion.budget import Progress
from editing.inversion.objective import Weights, objective
from encoders import compact
from stylegan2 import preview, w_statistics
from stylegan2.engine import area_resize, broadcast, latents
from stylegan2.errors import Cancelled, WplusError
from stylegan2.generator import seeded_z
from tests.encoders import toys

PIXELS = Weights(pixel=1.0, perceptual=0.0, identity=0.0, scales=(32, 8))


@pytest.fixture(scope="module")
def generator():
    return toys.generator()


@pytest.fixture
def encoder(generator, monkeypatch):
    """One whose answer is a code a little off the mean, whatever it sees."""
    encoder = compact.start(toys.image_network(), generator).eval().requires_grad_(False)
    encoder.code.bias.fill_(0.1)
    monkeypatch.setattr(encoding, "network", lambda _: encoder)
    monkeypatch.setattr(preview, "load", lambda generator: generator.synthesis)
    return encoder


def picture(generator):
    w = w_statistics.load().unwhiten(seeded_z([3], 512))
    return generator.synthesis(broadcast(generator, w)).detach()


def test_the_first_step_is_the_encoder_and_every_other_a_correction(generator, encoder, monkeypatch):
    monkeypatch.setattr(encoding, "CORRECTION", latent.Latent(weights=PIXELS))
    statistics, image, nearer, progress = w_statistics.load(), picture(generator), [], []
    for steps in (1, 3, 9):
        progress.clear()
        found = encoding.encoder(generator, image, budget=Budget(steps=steps), callback=lambda *at: progress.append(at))
        assert found.method == "encoder" and found.steps == steps == len(progress) and found.ws.shape == (1, 6, 512)
        nearer.append(found.metrics["l2"])
        if steps == 1:
            assert statistics.whiten(found.ws).mean().item() == pytest.approx(0.1, abs=1e-3)
    assert nearer[0] > nearer[1] > nearer[2]
    assert encoding.encoder(generator, image).steps == encoding.STEPS
    with pytest.raises(Cancelled, match="after 2 of 3 steps"):
        encoding.encoder(generator, image, callback=lambda step, *_: step < 2)


def test_an_optimisation_begins_where_it_is_told(generator):
    """At its own target, with nothing to gain: it stays; with all rows together it goes to their mean."""
    statistics, random = w_statistics.load(), torch.Generator().manual_seed(0)
    start = statistics.unwhiten(torch.randn(1, 6, 512, generator=random))
    goal = objective(generator.synthesis(start).detach(), PIXELS)
    free = latent.Latent(prior=0.0, row_prior=0.0, weights=PIXELS)
    found = latent.optimise_latent(generator, goal, free, 2, Progress(None, 2, ""), start)
    assert torch.allclose(found, start, atol=1e-3)
    together = latent.Latent(prior=0.0, together=True, weights=PIXELS)
    middle = start.mean(1, keepdim=True).expand_as(start)
    there = objective(generator.synthesis(middle).detach(), PIXELS)
    found = latent.optimise_latent(generator, there, together, 2, Progress(None, 2, ""), start)
    assert torch.allclose(found, middle, atol=1e-3)


def test_optimising_from_the_encoder_improves_its_answer_and_can_be_cancelled(generator, encoder, monkeypatch):
    monkeypatch.setattr(encoding, "WARM", latent.Latent(weights=PIXELS))
    monkeypatch.setattr(encoding, "SKETCH", latent.Latent(steps=3, weights=PIXELS))
    image = picture(generator)
    alone = encoding.encoder(generator, image)
    further = encoding.encoder_optimise(generator, image, budget=Budget(steps=20))
    assert further.method == "encoder+optimise" and further.steps == 20
    assert further.metrics["l2"] < alone.metrics["l2"]
    with pytest.raises(Cancelled):
        encoding.encoder_optimise(generator, image, budget=Budget(steps=20), callback=lambda *_: False)


def test_a_sketch_looks_at_previews_only(generator, monkeypatch):
    """Of a generator whose previews are all one grey ramp of the first row: the sketch finds the photo's grey."""
    grey = lambda ws: ws[:, :1, :1, None].expand(-1, 3, 128, 128) * 10  # noqa: E731
    monkeypatch.setattr(preview, "load", lambda _: grey)
    monkeypatch.setattr(type(generator), "synthesis", None)
    start = w_statistics.load().mean.expand(1, 6, 512)
    photo = torch.full((1, 3, 1024, 1024), grey(start)[0, 0, 0, 0].item() + 0.3)
    settings = latent.Latent(steps=8, prior=0.0, row_prior=0.0, weights=PIXELS)
    steps = []
    progress = Progress(lambda *at: steps.append(at), 41, "")
    found = latent.sketch(generator, photo, start, progress, settings)
    assert (grey(found) - photo[..., :1, :1]).abs().max() < 0.05 < (grey(start) - photo[..., :1, :1]).abs().max()
    assert 1 <= len(steps) <= 8
    with pytest.raises(Cancelled):
        latent.sketch(generator, photo, start, Progress(lambda *_: False, 41, ""), settings)


@pytest.mark.weights
def test_the_shipped_encoder_finds_generated_faces_and_corrections_help(mobile):
    """Mean L2 of four unseen faces, beside that of the mean face and of the answers to other faces."""
    ws = torch.cat([broadcast(mobile, latents(mobile, [seed], 0.7)) for seed in (61, 62, 64, 65)])
    with torch.inference_mode():
        faces = torch.cat([area_resize(mobile.synthesis(w), 256) for w in ws.split(1)])
        answers = encoding.encode(mobile, faces)
    photos = torch.nn.functional.interpolate(faces, scale_factor=4, mode="nearest")
    better = [
        encoding.corrected(mobile, face, answer, 3, Progress(None, 3, ""))
        for face, answer in zip(photos.split(1), answers.split(1), strict=True)
    ]
    with torch.inference_mode():
        shown = [
            torch.cat([area_resize(mobile.synthesis(w), 256) for w in found]) for found in (answers.split(1), better)
        ]
        mean = area_resize(mobile.synthesis(w_statistics.load().mean.expand(1, 16, -1)), 256)
    first, second, nobody, another = ((x - faces).square().mean().item() for x in (*shown, mean, shown[1].roll(1, 0)))
    assert second < first < 0.5 * nobody and second < 0.5 * another


def test_a_generator_with_other_rows_is_refused(generator):
    with pytest.raises(WplusError, match="16 rows of 512 numbers, and this generator takes 6"):
        encoding.network(generator)
