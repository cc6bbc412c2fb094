"""The bridge between sentences and codes: losses, training on a toy, files, and what the shipped one knows."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from editing.text import bridge as bridges
from editing.text import bridging
from editing.text.bridge import LatentBridge
from stylegan2 import engine
from stylegan2.errors import CheckpointError, UsageError, WplusError
from tests.editing.text.toys import COMPONENTS, SENTENCE, WIDE, found

SAID = {  # seeds of faces that nobody trained on (psi 0.8), and what a caption says of them by the judges
    2_000_302: "he is bespectacled and short-haired and has a mustache",
    2_000_303: "old, short-haired, small eyes, thin lips",
    2_000_307: "he has pale lips and silver hair",
    2_000_310: "male, golden light, copper hair",
    2_000_315: "a portrait of an unshaven man with thin hair, a moustache and wavy, strandy hair",
    2_000_318: "a portrait of a kid who is a redhead, long-haired and made up",
    2_000_319: "a man with the head bowed",
    2_000_321: "a dark-haired female with a simple backdrop",
    2_000_327: "a portrait of a female with big hair and golden hair",
    2_000_331: "a kid with glossy skin, flat light and a blurred background, beaming",
    2_000_337: "a portrait of a blond guy with sparse hair",
    2_000_342: "a close-up of a woman with red hair and a white background, in their twenties and not wearing glasses",
}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def toy(seed=0):
    torch.manual_seed(seed)
    bridge = LatentBridge(WIDE, COMPONENTS, width=16, space=8, sentence=SENTENCE)
    bridge.whitening.load_state_dict({"mean": drawn(WIDE), "basis": drawn(COMPONENTS, WIDE)})
    return bridge.eval().requires_grad_(False)


def test_pairs_that_fit_are_drawn_together_and_what_nearly_fits_is_left_alone():
    cosines = drawn(3, 4).clamp(-1, 1).requires_grad_(True)
    fit = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]).bool()
    near = torch.zeros(3, 4).bool()
    near[0, 1] = True
    scale = torch.tensor(2.0)
    loss = bridging.contrast(cosines, fit, near, scale, torch.ones(4))
    logits = scale.exp() * cosines
    rows = [-(logits[i, i] - logits[i, [j for j in range(4) if not near[i, j]]].logsumexp(0)) for i in range(3)]
    columns = [-(logits[i, i] - logits[[j for j in range(3) if not near[j, i]], i].logsumexp(0)) for i in range(3)]
    torch.testing.assert_close(loss, 0.5 * (sum(rows) / 3 + sum(columns) / 3))  # the last sentence fits nobody
    loss.backward()
    assert cosines.grad[0, 1] == 0 and (cosines.grad[fit] < 0).all() and (cosines.grad[~fit & ~near] > 0).all()


def test_a_second_face_that_fits_is_no_mistake():
    cosines = torch.zeros(2, 2, requires_grad=True)
    both = torch.ones(2, 2).bool()
    both[1, 0] = False
    bridging.contrast(cosines, both, torch.zeros(2, 2).bool(), torch.tensor(1.0), torch.ones(2)).backward()
    assert cosines.grad[0, 1] <= 0 < cosines.grad[1, 0]


def test_a_sentence_that_fits_everybody_draws_less():
    cosines = torch.zeros(3, 3, requires_grad=True)
    fit = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 1]]).bool()
    shares = bridging.shared((~fit).float(), torch.eye(3).bool())
    torch.testing.assert_close(shares, torch.tensor([1.0, 1 / 3, 1 / 3]))
    bridging.contrast(cosines, fit, torch.zeros(3, 3).bool(), torch.tensor(1.0), shares).backward()
    assert cosines.grad.isfinite().all() and cosines.grad[0, 1] < 2 * cosines.grad[0, 0] < 0


def test_it_learns_what_sentences_speak_of():
    data, _ = found()
    bridge = bridging.fit(data, steps=200, batch=48, dropout=0.0, rate=3e-3)
    held, w = found(count=300, seed=5, whitening=data.whitening)
    faces = bridge.latent(w[:, None].expand(-1, 16, -1))
    texts = bridge.embedded(torch.from_numpy(held.claims.embedding))
    fit = torch.from_numpy(held.claims.mentions).float() @ held.misfit.T  # (M, N)
    right = (texts @ faces.T)[fit == 0].mean()
    wrong = (texts @ faces.T)[fit > 0.5].mean()
    assert right > wrong + 0.8
    assert bridge.scale.exp() > 15 and not any(p.requires_grad for p in bridge.parameters())


def test_retrieval_counts():
    data, _ = found(60)
    held = data.claims
    faces = torch.nn.functional.normalize(drawn(60, 64), dim=1)
    perfect = bridging.retrieval(faces, held, faces[held.about], of=20, rounds=5)
    assert perfect["sentence to face R@1"] == perfect["face to sentence R@10"] == perfect["R-precision of 10"] == 1
    chance = bridging.retrieval(
        faces, held, torch.nn.functional.normalize(drawn(len(held.about), 64, seed=1), dim=1), of=20
    )
    assert chance["R-precision of 10"] == pytest.approx(0.1, abs=0.06)
    assert chance["sentence to face R@5"] == pytest.approx(0.25, abs=0.1)


def test_unit_vectors_with_gradients():
    bridge, ws = toy(), drawn(5, 18, WIDE).requires_grad_(True)
    faces, texts = bridge.latent(ws), bridge.embedded(drawn(4, SENTENCE, seed=2))
    torch.testing.assert_close(faces.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(4))
    (faces @ texts.T)[:, 0].sum().backward()
    assert (ws.grad.abs().sum((1, 2)) > 0).all()
    with pytest.raises(UsageError, match="16 rows or more of 12"):
        bridge.latent(drawn(1, 8, WIDE))
    with pytest.raises(UsageError, match="16 rows or more of 12"):
        bridge.latent(drawn(1, 18, 512))


def test_a_file_gives_back_what_went_into_it(tmp_path):
    bridge, path = toy(), tmp_path / "bridge.safetensors"
    bridges.save(bridge, path)
    again = bridges.read(path)
    ws = drawn(3, 16, WIDE)
    torch.testing.assert_close(again.latent(ws), bridge.latent(ws), rtol=0.02, atol=0.02)  # float16


def test_bad_files_are_one_sentence(tmp_path):
    path = tmp_path / "bridge.safetensors"
    bridges.save(toy(), path)
    metadata = {"heads": '{"format": "wplus-bridge-1"}'}
    for name, other in (("faces.out.bias", torch.zeros(3)), ("scale", torch.tensor(float("nan")))):
        save_file(load_file(path) | {f"bridge.{name}": other}, tmp_path / "other.safetensors", metadata=metadata)
        with pytest.raises(CheckpointError, match=name):
            bridges.read(tmp_path / "other.safetensors")
    save_file({"bridge.scale": torch.tensor(1.0)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="is missing"):
        bridges.read(tmp_path / "other.safetensors")
    save_file(load_file(path), tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="format"):
        bridges.read(tmp_path / "other.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(WplusError, match="cannot be read"):
        bridges.read(path)


@pytest.fixture(scope="module")
def bridge(weights):
    weights("all-minilm-l6-v2")
    return bridges.load()


def test_the_shipped_bridge_names_held_back_faces(bridge, mobile):
    ws = engine.broadcast(mobile, engine.latents(mobile, list(SAID), 0.8))
    rank = (scores := bridge.score(ws, list(SAID.values()))).argsort(1, descending=True)
    assert scores.shape == (len(SAID), len(SAID))
    first = (rank[:, 0] == torch.arange(len(SAID))).float().mean()
    assert first > 0.5, first  # by chance 1 of 12


def test_the_shipped_bridge_hears_opposites(bridge, mobile):
    ws = engine.broadcast(mobile, engine.latents(mobile, range(7_000_000, 7_000_040), 0.8))
    for a, b in (("a man", "a woman"), ("an old person", "a child"), ("blond hair", "black hair"),
                 ("a smiling person", "a serious person"), ("glasses", "no glasses")):  # fmt: skip
        a, b = bridge.score(ws, [a, b]).T
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] < 0, (a, b)


def test_a_picture_is_seen_by_its_code(bridge, mobile):
    ws = engine.broadcast(mobile, engine.latents(mobile, [7_000_001, 7_000_002], 0.8))
    with torch.no_grad():
        seen, known = bridge.image(mobile.synthesis(ws)), bridge.latent(ws)
    assert ((seen * known).sum(1) > (seen * known.flip(0)).sum(1)).all()
