"""Codes from sentences: what depends on what, files, and what the shipped generator makes."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from editing.heads.actions import ROWS
from editing.heads.response import Whitening
from editing.text import bridge as bridges
from editing.text import generators
from editing.text.bridge import Tower
from editing.text.generators import Family, Maker
from stylegan2 import engine
from stylegan2.errors import CheckpointError, UsageError, WplusError

COMPONENTS, SPACE, SENTENCE = 6, 8, 384


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def family(trained=True, w_dim=512):
    torch.manual_seed(1)
    whitening = Whitening.of(drawn(200, w_dim), COMPONENTS)
    maker = Maker(COMPONENTS, SPACE, 16)
    if trained:
        for parameter in maker.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    parts = (whitening, Tower(SENTENCE, 16, SPACE), maker)
    return Family("int-cls", *(part.eval().requires_grad_(False) for part in parts))


def t_of(count, seed=0):
    return torch.nn.functional.normalize(drawn(count, SPACE, seed=seed), dim=1)


def test_before_training_it_is_the_unconditional_generator(mobile):
    ws = family(trained=False).codes(mobile, t_of(2), [5, 6], psi=0.7)
    torch.testing.assert_close(ws, engine.broadcast(mobile, engine.latents(mobile, [5, 6], 0.7)))


def test_a_code_depends_on_its_sentence_and_its_seed_alone(mobile):
    made, t = family(), t_of(3)
    together = made.codes(mobile, t, [1, 2, 3])
    assert torch.equal(made.codes(mobile, t[1:2], [2]), together[1:2])
    assert torch.equal(made.codes(mobile, t.flip(0), [3, 2, 1]), together.flip(0))
    assert not torch.equal(made.codes(mobile, t[1:2], [3]), together[1:2])
    assert not torch.equal(made.codes(mobile, t[:1], [2]), together[1:2])


def test_what_is_added_lies_in_the_components_of_codes():
    whitening, added = Whitening.of(drawn(300, 32, seed=3), COMPONENTS), drawn(4, 3, COMPONENTS)
    rows = generators.lengthened(whitening, added)
    assert rows.shape == (4, 16, 32)
    for part, (start, end) in enumerate(ROWS.values()):
        torch.testing.assert_close(rows[:, start], rows[:, end - 1])
        torch.testing.assert_close(rows[:, start] @ whitening.basis.T, added[:, part], atol=1e-4, rtol=1e-4)


def test_what_cannot_be_made(mobile):
    class Other:
        num_ws, w_dim = 8, 64

    with pytest.raises(UsageError, match="16 rows or more of 512"):
        family().codes(Other(), t_of(1), [0])
    with pytest.raises(UsageError, match="2 sentences and 1 seeds"):
        family().codes(mobile, t_of(2), [0])
    assert family().codes(mobile, t_of(0), []).shape == (0, mobile.num_ws, 512)


def test_a_file_gives_back_what_went_into_it(tmp_path):
    made, path = family(), tmp_path / "gancls.safetensors"
    generators.save(made, path)
    again = generators.read(path)
    assert again.kind == "int-cls" and len(again.sha256) == 64
    w, t = drawn(3, 512, seed=2), drawn(3, SENTENCE, seed=3)
    torch.testing.assert_close(again.read(t), made.read(t), rtol=0.02, atol=0.02)  # float16
    torch.testing.assert_close(again.added(w, made.read(t)), made.added(w, made.read(t)), rtol=0.02, atol=0.02)


def test_bad_files_are_one_sentence(tmp_path):
    path, other = tmp_path / "gancls.safetensors", tmp_path / "other.safetensors"
    generators.save(family(), path)
    metadata = {"heads": '{"format": "wplus-gancls-1", "kind": "int-cls"}'}
    save_file(load_file(path) | {"maker.net.0.bias": torch.zeros(3)}, other, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"net\.0\.bias has the shape"):
        generators.read(other)
    save_file(load_file(path), other, metadata={"heads": '{"format": "wplus-gancls-1", "kind": "wgan"}'})
    with pytest.raises(CheckpointError, match="wgan"):
        generators.read(other)
    bridges.save(bridges.LatentBridge(32, 4, 16, 8, 8), other)
    with pytest.raises(UsageError, match="no generator from sentences"):
        generators.read(other)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(WplusError, match="cannot be read"):
        generators.read(path)


@pytest.fixture(scope="module")
def shipped(weights):
    weights("all-minilm-l6-v2")
    return generators.load()


SENTENCES = (
    "an elderly man with gray hair", "a young woman with long blond hair", "a little boy who is laughing",
    "a woman with red hair and pale skin", "a bearded man with dark eyebrows", "a man with glasses and a serious face",
)  # fmt: skip


def test_the_shipped_generator_makes_what_is_said(shipped, mobile):
    made = torch.cat([shipped.ws(mobile, SENTENCES, [40 + n] * len(SENTENCES)) for n in range(4)])
    plain = engine.broadcast(mobile, engine.latents(mobile, [40 + n for n in range(4)], 0.8))
    bridge = bridges.load()
    own = torch.arange(len(SENTENCES)).repeat(4)
    scores = bridge.score(made, SENTENCES)
    right = (scores.argmax(1) == own).float().mean()
    assert right > 0.6, right  # by chance 1 of 6
    chosen = scores[torch.arange(len(own)), own].unflatten(0, (4, -1))
    assert (chosen.mean(0) > bridge.score(plain, SENTENCES).mean(0)).all()


def test_noise_goes_on_to_matter(shipped, mobile):
    made = shipped.ws(mobile, [SENTENCES[1]] * 24, list(range(24)))
    plain = engine.broadcast(mobile, engine.latents(mobile, range(24), 0.8))
    spread = [shipped.whitening.view(ws).std(0).mean() for ws in (made, plain)]
    assert spread[0] > 0.6 * spread[1]


def test_ends_of_an_interpolation_are_its_sentences(shipped, mobile):
    path = shipped.between(mobile, SENTENCES[0], SENTENCES[1], seed=3, steps=5)
    ends = shipped.ws(mobile, SENTENCES[:2], [3, 3])
    torch.testing.assert_close(path[[0, -1]], ends, atol=1e-4, rtol=1e-4)
    distance = (path - path[:1]).flatten(1).norm(dim=1)
    assert (distance[1:] > distance[:-1]).all()
