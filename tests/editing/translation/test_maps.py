"""Label maps that SPADE learns from, and pictures drawn from them."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from editing.judges.parsing import CLASSES
from editing.translation import checkpoints, maps
from editing.translation.networks import SPADEDiscriminator, SPADEGenerator, StyleEncoder, UnetGenerator
from editing.translation.systems import SYSTEMS
from stylegan2.errors import PhotoError, UsageError
from tests.editing.translation.test_checkpoints import seeded


def label_map(path, pixels, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(pixels, np.uint8))
    if palette:
        picture.putpalette(list(range(255, -1, -1)) * 3)
        assert picture.mode == "P"
    picture.save(path)
    return path


def test_classes_are_counted_or_named_and_dont_care_is_one_more(tmp_path):
    one, two = np.zeros((4, 6), np.uint8), np.full((4, 6), 2, np.uint8)
    label_map(tmp_path / "a" / "0.png", one), label_map(tmp_path / "a" / "1.png", two, palette=True)
    for index in range(2):
        label_map(tmp_path / "b" / f"{index}.png", np.full((4, 6, 3), 9))
    source = maps.opened(tmp_path / "a", tmp_path / "b")
    assert list(source.names) == ["0", "1", "2"] and np.array_equal(source.a[1], two)
    two[0, 0] = 255
    label_map(tmp_path / "a" / "1.png", two)
    assert list(maps.opened(tmp_path / "a", tmp_path / "b").names) == ["0", "1", "2", maps.DONT_CARE]
    (tmp_path / "a" / "classes.txt").write_text("sky\r\ntree\r\nsea\r\nsand\r\n")
    source = maps.opened(tmp_path / "a", tmp_path / "b", tmp_path / "a")
    assert list(source.names) == ["sky", "tree", "sea", "sand", maps.DONT_CARE, maps.EDGE]
    assert source.batch(0, 2, 32, 0)["a"].shape == (2, 6, 32, 32)


def test_channels_hold_each_label_once_and_edges_last():
    labels = np.array([[0, 2, 255], [1, 1, 255]], np.uint8)
    planes = maps.channels([labels], 4, 3)
    assert planes.sum(0).eq(1).all() and planes.argmax(0).tolist() == [[0, 2, 3], [1, 1, 3]]
    instances = np.array([[7, 7, 7], [7, 900, 900]], np.int32)
    planes = maps.channels([labels, instances], 5, 3)
    assert planes[4].tolist() == [[0, 1, 1], [1, 1, 1]] and planes[:4].sum(0).eq(1).all()
    with pytest.raises(UsageError, match="the label 255 is none of the 4"):
        maps.channels([labels], 4)


def test_channels_take_no_more_memory_than_they_have_numbers():
    made = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            made.extend(x.numel() * x.element_size() for x in (found,) if isinstance(x, torch.Tensor))
            return found

    with Watched():
        planes = maps.channels([np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 30], 30)
    assert planes.dtype == torch.float32 and max(made) == 4 * planes.numel()


def test_maps_and_photos_are_cut_alike_and_values_stay(tmp_path):
    rng = np.random.default_rng(0)
    values = np.array([0, 100, 200], np.uint8)
    for index in range(4):
        labels = np.kron(rng.integers(0, 3, (8, 8)), np.ones((8, 8), int))
        label_map(tmp_path / "a" / f"{index}.png", labels)
        label_map(tmp_path / "b" / f"{index}.png", np.repeat(values[labels][..., None], 3, 2))
    source = maps.opened(tmp_path / "a", tmp_path / "b")
    batches = [source.batch(number, 2, 64, 0) for number in range(6)]
    for tensors in batches:
        assert set(tensors["a"].unique().tolist()) == {0.0, 1.0} and tensors["a"].sum(1).eq(1).all()
        drawn = torch.from_numpy(values)[tensors["a"].argmax(1)].float() / 127.5 - 1
        assert ((drawn - tensors["b"][:, 0]).abs() < 0.25).float().mean() > 0.85
    again = source.batch(3, 2, 64, 0)
    assert torch.equal(again["a"], batches[3]["a"]) and torch.equal(again["b"], batches[3]["b"])
    assert not torch.equal(batches[0]["a"], batches[2]["a"])


def test_faces_of_the_factory(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(CLASSES), (3, 32, 32)).astype(np.uint8)
    np.save(tmp_path / "0.a.npy", labels)
    np.save(tmp_path / "0.b.npy", rng.integers(0, 255, (3, 32, 32, 3)).astype(np.uint8))
    (tmp_path / "0.seeds").write_text("3\n")
    (tmp_path / "facts.json").write_text(json.dumps({"kind": "parsed"}))
    source = SYSTEMS["spade"].source(tmp_path)
    assert tuple(source.names) == CLASSES and len(source) == 3
    tensors = source.batch(0, 3, 32, 0)
    assert tensors["a"].shape == (3, len(CLASSES), 32, 32) and tensors["b"].shape == (3, 3, 32, 32)
    with pytest.raises(UsageError, match="no instances"):
        SYSTEMS["spade"].source(tmp_path, None, tmp_path)
    (tmp_path / "facts.json").write_text(json.dumps({"kind": "degraded"}))
    with pytest.raises(UsageError, match="degraded pairs, not label maps"):
        SYSTEMS["spade"].source(tmp_path)


def test_folders_that_hold_no_maps_are_one_sentence(tmp_path):
    label_map(tmp_path / "a" / "0.png", np.full((8, 8), 3)), label_map(tmp_path / "b" / "0.png", np.zeros((8, 8, 3)))
    a, b = tmp_path / "a", tmp_path / "b"
    (tmp_path / "jpg").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "jpg" / "0.jpg")
    for words, arguments in [
        ("--a maps/ --b photos/", (a,)),
        ("is a picture .RGB., no label map", (b, b)),
        ("JPG does not keep values", (tmp_path / "jpg", b)),
        ("not a folder", (a, b, tmp_path / "labels.csv")),
    ]:
        with pytest.raises((UsageError, PhotoError), match=words) as caught:
            maps.opened(*arguments)
        assert "\n" not in str(caught.value)
    for text, words in (("one\ntwo\n", "has the label 3, but .* names 2 classes"), ("one\n\nthree\n", "no line empty")):
        (a / "classes.txt").write_text(text)
        with pytest.raises(UsageError, match=words):
            maps.opened(a, b)


# ---- use


def saved(tmp_path, make, name="latest_net_G.safetensors"):
    tmp_path.mkdir(exist_ok=True)
    checkpoints.save(seeded(make), tmp_path / name)
    return tmp_path / name


def pixels_of(network, planes, *codes):
    with torch.no_grad():
        return ((network(planes, *codes)[0] * 127.5) + 127.5).round().permute(1, 2, 0).byte().numpy()


def test_a_map_of_any_size_is_drawn_and_marked(tmp_path, run):
    file = saved(tmp_path, lambda: SPADEGenerator(3, 2))
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (4, 6)), np.ones((16, 16), int))
    path = label_map(tmp_path / "in" / "map.png", labels)
    code, lines, error = run("apply", "--network", file, "--img", path, "--out", tmp_path / "out")
    assert code == 0 and lines == [str(tmp_path / "out" / "map.png")], error
    planes = F.one_hot(torch.from_numpy(labels), 3).permute(2, 0, 1)[None].float()
    with Image.open(lines[0]) as result:
        assert np.array_equal(np.asarray(result), pixels_of(checkpoints.load(file), planes))
        assert "rainedAlgorithmicMedia" in str(result.info)
    label_map(tmp_path / "in" / "odd.png", labels[:45, :61], palette=True)
    code, lines, _ = run("apply", "--network", file, "--img", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 0 and Image.open(tmp_path / "out" / "odd.png").size == (61, 45)


def test_codes_are_drawn_by_seed_or_read_from_a_photo(tmp_path, run):
    file = saved(tmp_path, lambda: SPADEGenerator(3, 2, nz=9, start=(2, 2)))
    encoder = saved(tmp_path, lambda: StyleEncoder(2, 9), "latest_net_E.safetensors")
    path = label_map(tmp_path / "map.png", np.arange(64 * 64).reshape(64, 64) % 3)
    common = ("apply", "--network", file, "--img", path, "--out", tmp_path / "out")
    code, lines, _ = run(*common, "--samples", 3, "--seed", 5)
    assert code == 0 and [line.rsplit("/")[-1] for line in lines] == [f"map.{k}.png" for k in range(3)]
    results = [np.asarray(Image.open(line)) for line in lines]
    assert not np.array_equal(results[0], results[1])
    photo = label_map(tmp_path / "photo.png", np.random.default_rng(1).integers(0, 255, (50, 70, 3)))
    code, lines, error = run(*common, "--like", photo, "--encoder", encoder)
    assert code == 0 and len(lines) == 1, error
    seen = np.asarray(Image.open(photo).resize((64, 64), Image.Resampling.BICUBIC))
    x = torch.from_numpy(np.array(seen)).permute(2, 0, 1)[None].float() / 127.5 - 1
    planes = F.one_hot(torch.arange(64 * 64).reshape(64, 64) % 3, 3).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        z = checkpoints.load(encoder)(x)[0]
    assert np.array_equal(np.asarray(Image.open(lines[0])), pixels_of(checkpoints.load(file), planes, z))


def test_edges_and_dont_care_are_where_the_run_has_them(tmp_path, run):
    """A run's settings say which channels they are; published networks are told by how many they have."""
    file = saved(tmp_path / "run", lambda: SPADEGenerator(5, 2))
    names = ["sky", "tree", "sea", maps.DONT_CARE, maps.EDGE]
    (tmp_path / "run" / "settings.json").write_text(json.dumps({"domains": names}))
    network = checkpoints.load(file)
    labels = np.zeros((32, 32), np.uint8)
    labels[:, 10:], labels[:, 20:] = 2, 255
    path = label_map(tmp_path / "map.png", labels)
    own = maps.prepared(network, file, path, None, None)
    assert own[0, 3, :, 20:].eq(1).all() and own[0, 4].sum() == 4 * 32 and own[0, :4].sum(0).eq(1).all()
    instances = label_map(tmp_path / "instances" / "map.png", (np.arange(32)[:, None] > 15) * np.ones((32, 32)))
    other = maps.prepared(network, file, path, instances.parent, None)
    assert torch.equal(other[0, 4], torch.from_numpy(maps.edges(np.asarray(Image.open(instances)))).float())
    common = ("apply", "--network", file, "--img", path, "--out")
    assert run(*common, tmp_path / "out", "--instances", instances)[0] == 0
    code, _, error = run(*common, tmp_path / "instances", "--instances", tmp_path / "instances")
    assert code == 1 and "another --out" in error
    assert maps.meaning(tmp_path / "G.pth", 184) == (182, True) and maps.meaning(tmp_path / "G.pth", 36) == (None, True)
    assert maps.meaning(tmp_path / "G.pth", 151) == (None, False)
    assert maps.meaning(tmp_path / "G.pth", 20) == (None, None)


@pytest.mark.parametrize("labels,names,refused", [(3, list("abc"), True), (151, None, True), (3, None, False)])
def test_instances_are_refused_where_a_network_is_known_to_have_no_edges(tmp_path, run, labels, names, refused):
    file = saved(tmp_path / "run", lambda: SPADEGenerator(labels, 2))
    if names:
        (tmp_path / "run" / "settings.json").write_text(json.dumps({"domains": names}))
    path = label_map(tmp_path / "map.png", np.arange(32 * 32).reshape(32, 32) % 2)
    code, lines, error = run("apply", "--network", file, "--img", path, "--out", tmp_path / "out", "--instances", path)
    assert (code, len(lines)) == ((2, 0) if refused else (0, 1)), error
    if refused:
        assert "no channel for the edges" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["channels", "nearest"])
@pytest.mark.parametrize("raised", [MemoryError(), RuntimeError("you tried to allocate 9 bytes")])
def test_memory_that_is_short_while_a_map_is_read_is_one_line(tmp_path, run, monkeypatch, where, raised):
    def short(*_):
        raise raised

    file = saved(tmp_path, lambda: SPADEGenerator(3, 2))
    monkeypatch.setattr(maps, where, short)
    path = label_map(tmp_path / "map.png", np.ones((32, 32)))
    code, _, error = run("apply", "--network", file, "--img", path, "--out", tmp_path / "out")
    assert (code, error.count("\n")) == (1, 1) and "map.png needs more memory than there is" in error


def test_networks_made_for_more_pixels_are_told_so(tmp_path, run):
    file = saved(tmp_path, lambda: SPADEGenerator(3, 2))
    path = label_map(tmp_path / "map.png", np.arange(64 * 64).reshape(64, 64) % 3)
    common = ("apply", "--network", file, "--img", path, "--out", tmp_path / "out")
    assert run(*common, "--upsampling", "more")[0] == 0
    network = checkpoints.load(file)
    network.upsampling = "more"
    planes = F.one_hot(torch.arange(64 * 64).reshape(64, 64) % 3, 3).permute(2, 0, 1)[None].float()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "map.png")), pixels_of(network, planes))
    code, _, error = run(*common, "--upsampling", "most")
    assert code == 2 and "of the kind 'normal'" in error


def test_what_cannot_be_drawn_is_one_line(tmp_path, run):
    plain = saved(tmp_path, lambda: SPADEGenerator(3, 2))
    coded = saved(tmp_path, lambda: SPADEGenerator(3, 2, nz=9, start=(2, 2)), "coded.safetensors")
    encoder = saved(tmp_path, lambda: StyleEncoder(2, 8), "E.safetensors")
    critic = saved(tmp_path, lambda: SPADEDiscriminator(6, 4), "D.safetensors")
    unet = saved(tmp_path, lambda: UnetGenerator(3, 3, 32, 4), "unet.safetensors")
    good = label_map(tmp_path / "good.png", np.ones((64, 64)))
    many = label_map(tmp_path / "many.png", np.full((64, 64), 3))
    unknown = label_map(tmp_path / "unknown.png", np.full((64, 64), 255))
    colour = label_map(tmp_path / "colour.png", np.ones((64, 64, 3)))
    odd = label_map(tmp_path / "odd.png", np.ones((40, 64)))
    (tmp_path / "empty").mkdir()
    for code, words, network, img, *more in [
        (1, "many.png does not fit this network: the label 3 is none of the 3", plain, many),
        (1, "the label 255 is none of the 3", plain, unknown),
        (1, "colour.png is a picture (RGB), no label map", plain, colour),
        (1, "draws 64x64 alone: --size 64", coded, odd),
        (1, "--size is 128; this network draws 64x64", coded, good, "--size", 128),
        (1, "at most 2048 fit", plain, good, "--size", 4096),
        (1, "draws nothing", critic, good),
        (1, "no instance map of the same name", plain, good, "--instances", tmp_path / "empty"),
        (1, "not of the same size", plain, good, "--instances", odd),
        (2, "codes have 8 numbers, the generator's 9", coded, good, "--like", colour, "--encoder", encoder),
        (2, "not SPADE's encoder", coded, good, "--like", colour, "--encoder", unet),
        (2, "--like and --encoder are for", plain, good, "--like", colour, "--encoder", encoder),
        (2, "--how is for networks that take pictures", plain, good, "--how", "gray"),
        (2, "--faces is for networks that take pictures", plain, good, "--faces"),
        (2, "--instances is for SPADE", unet, good, "--instances", good),
        (2, "--upsampling is for SPADE", unet, good, "--upsampling", "more"),
        (2, "no upsampling 'much'", plain, good, "--upsampling", "much"),
        (2, "--label is for StarGAN", plain, good, "--label", 1),
    ]:
        got, _, error = run("apply", "--network", network, "--img", img, "--out", tmp_path / "out", *more)
        assert (got, error.count("\n")) == (code, 1) and words in error, (words, error)
    assert run("apply", "--network", coded, "--img", odd, "--out", tmp_path / "out", "--size", 64)[0] == 0
