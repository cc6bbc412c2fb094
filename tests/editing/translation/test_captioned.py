"""Captioned pictures: from folders, tables and the factory; batches that are their number; what does not fit."""

import json
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from editing.translation import captioned, factory
from editing.translation.captioned import Captioned, strangers
from encoders import sentence
from stylegan2.errors import PhotoError, UsageError
from stylegan2.mobile import MobileStyleGAN

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}


def toy_encode(sentences, width=sentence.WIDTH):
    """A stand-in for the encoder: every word a random vector, their sum of length sqrt(width)."""
    found = []
    for text in sentences:
        seeds = [zlib.crc32(word.encode()) for word in text.lower().split()]
        found.append(sum(np.random.default_rng(seed).standard_normal(width) for seed in seeds))
    rows = np.array(found, np.float32).reshape(len(found), width)
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True) * width**0.5)


@pytest.fixture
def toy(monkeypatch):
    """The toy encoder in the place of the real one; a list of what it was asked."""
    asked = []
    monkeypatch.setattr(captioned, "encode", lambda texts: asked.append(list(texts)) or toy_encode(texts))
    return asked


def painted(folder, count=9, size=48, names=tuple(COLOURS)):
    """Pictures of one colour, with captions that say which."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        name = names[index % len(names)]
        level = 0.7 + 0.3 * np.random.default_rng(index).random()
        Image.new("RGB", (size, size), tuple(int(level * c) for c in COLOURS[name])).save(folder / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(f"a {name} picture\n\nall is {name}\n")
    return folder


# ---- where captions come from


def test_texts_beside_pictures(tmp_path):
    folder = painted(tmp_path / "a")
    (folder / "08.txt").unlink()  # without one it is left out
    source = captioned.opened(folder)
    assert len(source) == 8 and source.captions[1] == ("a green picture", "all is green")
    assert source.a[1][..., 1].mean() > 100 > source.a[1][..., 0].mean()
    assert source.kinds[0] == source.kinds[3] != source.kinds[1]
    assert (source.names, source.b) == ((), None)


@pytest.mark.parametrize("where", ["in the folder", "elsewhere"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_one_table(tmp_path, kind, where):
    folder = painted(tmp_path / "a" / "deep").parent
    for text in folder.rglob("*.txt"):
        text.write_text("no caption of the table")
    table = (folder if where == "in the folder" else tmp_path) / f"captions.{kind}"
    if kind == "csv":
        table.write_text(
            'more,file,caption\n1,deep/02.png,"blue, all of it"\n2,deep/01.png,green\n3,deep/02.png,cold\n'
        )
    else:
        rows = [
            {"file": "deep/02.png", "caption": ["blue, all of it", "cold"]},
            {"file": "deep/01.png", "caption": "green"},
        ]
        table.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    source = captioned.opened(folder, table if where == "elsewhere" else None)
    assert source.captions == [("blue, all of it", "cold"), ("green",)] and source.a[0][0, 0, 2] > 100


def no_texts(folder):
    for text in folder.glob("*.txt"):
        text.unlink()


def table_of(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "change,words",
    [
        (no_texts, "No picture of .* has captions: NAME.txt beside NAME.jpg"),
        (lambda folder: (folder / "03.txt").write_text(" \n\n"), "03.txt holds no caption"),
        (lambda folder: (folder / "03.txt").write_bytes(b"\xff\xfe\x00"), "03.txt cannot be read"),
        (lambda folder: (folder / "03.txt").write_text("a" * 5000), "5000 characters"),
        (lambda folder: [path.write_text("the same") for path in folder.glob("*.txt")], "the same captions"),
        (lambda folder: [path.unlink() for path in folder.glob("*.png")], "no pictures"),
        (table_of("captions.csv", b"00.png,red\n"), "no table of captions"),
        (table_of("captions.csv", b""), "no table of captions"),
        (table_of("captions.csv", b"file,caption\n00.png\n"), "line 2"),
        (table_of("captions.csv", b"file,caption\n00.png,  \n"), "empty caption for '00.png'"),
        (table_of("captions.csv", b"file,caption\nx.png,red\n"), "'x.png', which is not in"),
        (table_of("captions.csv", b"file,caption\n"), "No picture of"),
        (table_of("captions.csv", b"file,caption\n00.png,\xff\n"), "cannot be read"),
        (table_of("captions.jsonl", b'{"file": "00.png"}\n'), "line 1"),
        (table_of("captions.jsonl", b'["00.png", "red"]\n'), "line 1"),
        (table_of("captions.jsonl", b'{"file": "00.png", "caption": [1]}\n'), "line 1"),
        (table_of("captions.jsonl", b"[" * 100_000), "line 1"),
        (table_of("facts.json", b'{"kind": "parsed"}'), "holds parsed pairs, not captioned faces"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, change, words):
    folder = painted(tmp_path / "a")
    change(folder)
    with pytest.raises(UsageError, match=words) as caught:
        captioned.opened(folder)
    assert "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_read_is_named(tmp_path, toy):
    folder = painted(tmp_path / "a")
    (folder / "04.png").write_bytes(b"no picture")
    with pytest.raises(PhotoError, match="04.png"):
        captioned.opened(folder).batch(0, 9, 64, 0)


# ---- batches


def test_a_batch_is_its_number_and_fits_together(tmp_path, toy):
    source = captioned.opened(painted(tmp_path / "a"))
    found, same, other = source.batch(3, 6, 64, 1), source.batch(3, 6, 64, 1), source.batch(4, 6, 64, 1)
    assert found["a"].shape == found["wrong"].shape == (6, 3, 64, 64) and found["text"].shape == (6, 384)
    assert all(torch.equal(found[key], same[key]) for key in found)
    assert not torch.equal(found["a"], other["a"])
    assert found["a"].min() >= -1 and found["a"].max() <= 1
    means = toy_encode([f"a {name} picture" for name in COLOURS]) + toy_encode([f"all is {name}" for name in COLOURS])
    said = (found["text"] @ means.T).argmax(1)
    assert torch.equal(said, found["a"].mean((2, 3)).argmax(1))  # a text is its picture's
    assert (said != found["wrong"].mean((2, 3)).argmax(1)).all()  # and never the wrong one's


def test_a_text_is_the_mean_of_four_captions(tmp_path, toy):
    source = captioned.opened(painted(tmp_path / "a"))
    both = source.embedded()[[source.places[text] for text in source.captions[0]]]
    rng, shares = np.random.default_rng(0), set()
    for _ in range(60):
        text = source.text(0, rng)
        share = torch.linalg.lstsq(both.T, text[:, None]).solution[:, 0] * 4
        assert torch.allclose(share, share.round(), atol=1e-3) and share.sum().item() == pytest.approx(4, abs=1e-3)
        shares.add(round(share[0].item()))
    assert shares == {0, 1, 2, 3, 4}


def test_strangers_are_a_permutation_without_the_like():
    rng = np.random.default_rng(0)
    for kinds in (np.arange(8), np.array([0, 0, 0, 0, 1, 2, 3, 3]), np.array([5, 5, 9, 9])):
        seen = set()
        for _ in range(50):
            found = strangers(kinds, rng)
            assert sorted(found) == list(range(len(kinds)))
            assert all(kinds[i] != kinds[other] for i, other in enumerate(found))
            seen.add(tuple(found))
        assert len(seen) > 1
    found = strangers(np.array([0, 0, 0, 1]), rng)
    assert sum(other is None for other in found) == 2 and found[3] is not None
    assert strangers(np.array([4, 4]), rng) == [None, None]


def test_a_batch_of_one_kind_takes_wrong_pictures_from_outside(tmp_path, toy):
    source = captioned.opened(painted(tmp_path / "a"))
    alike = Captioned(source.a, [("red",)] * 8 + [("other",)])
    for number in range(6):
        found = alike.batch(number, 2, 64, 0)
        red = found["text"] @ toy_encode(["red"])[0] > 0.5 * 384
        blue = found["wrong"].mean((2, 3)).argmax(1) == 2  # number 8, the only other one
        assert torch.equal(red, blue)


def test_pictures_whose_captions_name_a_side_are_not_mirrored(tmp_path, toy):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = 255
    bright = {}
    for word in ("left", "leftover"):
        source = Captioned([pixels, pixels], [(f"looking {word}",), ("looking up",)])
        found = [source.picture(0, number, 64, 0) for number in range(20)]
        bright[word] = [(picture[..., :20].mean() > 0).item() for picture in found]
    assert all(bright["left"]) and 3 < sum(bright["leftover"]) < 17


# ---- embeddings


def test_embeddings_are_computed_once_and_kept(tmp_path, toy):
    folder, cache = painted(tmp_path / "a"), tmp_path / captioned.CACHE
    source = captioned.opened(folder)
    first = source.embedded(cache)
    source.batch(0, 4, 64, 0)
    assert len(toy) == 1 and len(toy[0]) == 6 and first.shape == (6, 384)
    again = captioned.opened(folder)
    assert torch.equal(again.embedded(cache), first) and len(toy) == 1
    (folder / "00.txt").write_text("something else\n")
    captioned.opened(folder).embedded(cache)
    assert len(toy) == 2
    for damage in (b"", cache.read_bytes()[:-9], b"{}" * 20):
        cache.write_bytes(damage)
        captioned.opened(folder).embedded(cache)
    assert len(toy) == 5 and [path.name for path in tmp_path.iterdir() if path.is_file()] == [cache.name]


@pytest.mark.weights
def test_embeddings_are_the_encoders_with_numbers_around_one(weights):
    weights(sentence.RECORD)
    found = captioned.encode(["a smiling woman", "a woman who smiles", "a plane over the sea"])
    assert found.shape == (3, 384) and found.std(1).sub(1).abs().max() < 0.01
    assert found[0] @ found[1] > 1.5 * (found[0] @ found[2])


# ---- the factory


class Told:
    def __init__(self, values):
        self.values = values


def test_faces_of_the_factory_come_with_captions(tmp_path, toy, monkeypatch):
    generator = MobileStyleGAN((16, 16, 16, 16, 16, 16), w_dim=8, mapping_layers=1)
    for seed, tensor in enumerate((*generator.parameters(), *generator.buffers())):
        tensor.data.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)) * 0.1)
    faces = iter([Told({"age": 20.0}), None, Told({"age": 60.0})])
    monkeypatch.setattr("editing.judges.judge.judge", lambda picture: next(faces))

    def told(values, count, rng):
        return [f"{'old' if values['age'] > 40 else 'young'} {rng.integers(1000)}" for _ in range(count)]

    monkeypatch.setattr("editing.text.captions.captions", told)
    list(factory.write(generator, tmp_path / "told", factory.Order("captioned", size=32, each=5), 3, 7))
    source = captioned.opened(tmp_path / "told")
    assert len(source) == 2 and [len(texts) for texts in source.captions] == [5, 5]
    assert source.captions[0] == tuple(told({"age": 20.0}, 5, np.random.default_rng(7)))
    assert source.a[0].shape == (32, 32, 3) and source.captions[1][0].startswith("old")
    assert json.loads((tmp_path / "told" / "facts.json").read_text())["each"] == 5
    assert source.batch(0, 2, 64, 0)["a"].shape == (2, 3, 64, 64)
    with pytest.raises(UsageError, match="their own captions"):
        captioned.opened(tmp_path / "told", tmp_path / "captions.csv")
    with pytest.raises(UsageError, match="other pairs"):
        list(factory.write(generator, tmp_path / "told", factory.Order("captioned", size=32, each=4), 3, 7))
