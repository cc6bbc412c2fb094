"""The encoder as a strategy: passes, warm starts, and a generator that it does not fit."""

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


def test_a_step_is_a_pass(generator, encoder):
    statistics, image = w_statistics.load(), picture(generator)
    for steps, passes in ((1, 1), (3, 3), (99, encoding.MOST_PASSES)):
        found = encoding.encoder(generator, image, budget=Budget(steps=steps))
        assert found.method == "encoder" and found.steps == passes and found.ws.shape == (1, 6, 512)
        assert statistics.whiten(found.ws).mean().item() == pytest.approx(0.1 * passes, abs=1e-3)
    assert encoding.encoder(generator, image).steps == encoding.PASSES


def test_an_optimisation_begins_where_it_is_told(generator):
    statistics, goal = w_statistics.load(), objective(picture(generator), PIXELS)
    start = statistics.unwhiten(torch.randn(1, 6, 512, generator=torch.Generator().manual_seed(0)))
    still = latent.Latent(rate=0.0, rows_from=0.0, weights=PIXELS)
    found = latent.optimise_latent(generator, goal, still, 2, Progress(None, 2, ""), start)
    assert torch.allclose(found, start, atol=1e-4)
    together = latent.Latent(rate=0.0, rows_from=1.0, weights=PIXELS)
    found = latent.optimise_latent(generator, goal, together, 2, Progress(None, 2, ""), start)
    assert torch.allclose(found, start.mean(1, keepdim=True).expand_as(start), atol=1e-4)


def test_optimising_from_the_encoder_improves_its_answer_and_can_be_cancelled(generator, encoder, monkeypatch):
    monkeypatch.setattr(encoding, "WARM", latent.Latent(rows_from=0.0, weights=PIXELS))
    monkeypatch.setattr(encoding, "SKETCH", latent.Latent(steps=3, rows_from=0.0, weights=PIXELS))
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
    settings = latent.Latent(steps=40, rate=0.01, prior=0.0, row_prior=0.0, rows_from=0.0, weights=PIXELS)
    steps = []
    progress = Progress(lambda *at: steps.append(at), 41, "")
    found = latent.sketch(generator, photo, start, progress, settings)
    assert (grey(found) - photo[..., :1, :1]).abs().max() < 0.05 < (grey(start) - photo[..., :1, :1]).abs().max()
    assert len(steps) == 40
    with pytest.raises(Cancelled):
        latent.sketch(generator, photo, start, Progress(lambda *_: False, 41, ""), settings)


@pytest.mark.weights
def test_the_shipped_encoder_finds_generated_faces_and_its_second_pass_helps(mobile):
    """Mean L2 of four unseen faces, beside that of the mean face and of the answers to other faces."""
    ws = torch.cat([broadcast(mobile, latents(mobile, [seed], 0.7)) for seed in (61, 62, 64, 65)])
    with torch.inference_mode():
        faces = torch.cat([area_resize(mobile.synthesis(w), 256) for w in ws.split(1)])
        shown = []
        for passes in (1, 2):
            answers = encoding.encode(mobile, faces, passes)
            shown.append(torch.cat([area_resize(mobile.synthesis(w), 256) for w in answers.split(1)]))
        mean = area_resize(mobile.synthesis(w_statistics.load().mean.expand(1, 16, -1)), 256)
    first, second, nobody, another = ((x - faces).square().mean().item() for x in (*shown, mean, shown[1].roll(1, 0)))
    assert second < first < 0.5 * nobody and second < 0.5 * another


def test_a_generator_with_other_rows_is_refused(generator):
    with pytest.raises(WplusError, match="16 rows of 512 numbers, and this generator takes 6"):
        encoding.network(generator)
