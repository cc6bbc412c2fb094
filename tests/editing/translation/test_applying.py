"""python -m editing.translate: use of networks on pictures, and one line for what does not fit."""

import numpy as np
import pytest
import torch
from PIL import Image

from editing.translation import checkpoints
from editing.translation.networks import (
    RBDN,
    BicycleEncoder,
    BicycleGenerator,
    ResnetGenerator,
    StarGANGenerator,
    UnetGenerator,
)
from tests.editing.translation.test_checkpoints import caffemodel, seeded


def saved(tmp_path, network, name="G.safetensors"):
    path = tmp_path / name
    checkpoints.save(network, path)
    return path


def photo(tmp_path, size=(64, 64), name="in/photo.png"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_network_translates_a_picture_and_marks_it(tmp_path, run):
    network = seeded(lambda: UnetGenerator(3, 3, 32, 4))
    picture = photo(tmp_path)
    file = saved(tmp_path, network)
    code, lines, _ = run("apply", "--network", file, "--img", picture, "--out", tmp_path / "out", "--eval")
    assert code == 0 and lines == [str(tmp_path / "out" / "photo.png")]
    with Image.open(lines[0]) as result, Image.open(picture) as source:
        x = torch.from_numpy(np.array(source)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            expected = ((network(x)[0].clamp(-1, 1) * 127.5) + 127.5).round().permute(1, 2, 0).byte()
        assert np.array_equal(np.asarray(result), expected.numpy())
        assert "rainedAlgorithmicMedia" in str(result.info)


def test_other_networks_take_any_size(tmp_path, run):
    picture = photo(tmp_path, (61, 45))
    for network in (ResnetGenerator(3, 3, 1, 4), RBDN(3, 3, 4, 2)):
        code, lines, _ = run(
            "apply",
            "--network",
            saved(tmp_path, seeded(lambda n=network: n)),
            "--img",
            picture,
            "--out",
            tmp_path / "out",
        )
        assert code == 0
        with Image.open(lines[0]) as result:
            assert result.size == (61, 45)


def test_bicyclegan_gives_several_results_or_takes_a_style(tmp_path, run):
    g = saved(tmp_path, seeded(lambda: BicycleGenerator(3, 3, 8, 32, 4)))
    e = saved(tmp_path, seeded(lambda: BicycleEncoder(3, 8, 4, "instance", 3)), "E.safetensors")
    picture, common = photo(tmp_path), ("--img", tmp_path / "in", "--out", tmp_path / "out")
    code, lines, _ = run("apply", "--network", g, *common, "--samples", 3)
    assert code == 0 and [line.rsplit("/")[-1] for line in lines] == [f"photo.{k}.png" for k in range(3)]
    pictures = [np.asarray(Image.open(line)) for line in lines]
    assert not np.array_equal(pictures[0], pictures[1])
    code, lines, _ = run("apply", "--network", g, *common, "--like", picture, "--encoder", e)
    assert code == 0 and len(lines) == 1


def test_stargan_takes_a_label_for_each_domain(tmp_path, run):
    g = saved(tmp_path, seeded(lambda: StarGANGenerator(2, 4, 1)))
    picture = photo(tmp_path)
    common = ("apply", "--network", g, "--img", picture, "--out", tmp_path / "out")
    assert run(*common, "--label", 1, "--label", 0)[0] == 0
    code, _, error = run(*common, "--label", 1)
    assert code == 2 and "2 domains" in error


def test_a_published_caffe_network_sees_bgr_of_0_to_255(tmp_path, run):
    network = seeded(lambda: RBDN(3, 3, 4, 2))
    (tmp_path / "rbdn.caffemodel").write_bytes(caffemodel(network))
    picture = photo(tmp_path)
    code, lines, _ = run(
        "apply", "--network", tmp_path / "rbdn.caffemodel", "--img", picture, "--out", tmp_path / "out"
    )
    assert code == 0
    bgr = torch.from_numpy(np.asarray(Image.open(picture))[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = network(bgr)[0].permute(1, 2, 0).flip(2).clamp(0, 255).numpy()
    assert np.abs(np.asarray(Image.open(lines[0])).astype(float) - expected).max() <= 0.51


def test_what_does_not_fit_is_one_line(tmp_path, run):
    unet = saved(tmp_path, seeded(lambda: UnetGenerator(3, 3, 32, 4)))
    star = saved(tmp_path, seeded(lambda: StarGANGenerator(2, 4, 1)), "star.safetensors")
    encoder = saved(tmp_path, seeded(lambda: BicycleEncoder(3, 8, 4)), "E.safetensors")
    odd, out = photo(tmp_path, (60, 64)), ("--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for code, words, arguments in [
        (1, "60x64 pixels; this network needs sides that are", ("apply", "--network", unet, "--img", odd)),
        (1, "multiples of 32: --size 32", ("apply", "--network", unet, "--img", odd)),
        (1, "draws nothing", ("apply", "--network", encoder, "--img", odd)),
        (1, "does not exist", ("apply", "--network", tmp_path / "none.pth", "--img", odd)),
        (2, "no pictures", ("apply", "--network", unet, "--img", tmp_path / "empty")),
        (2, "--label is for StarGAN", ("apply", "--network", unet, "--img", odd, "--label", 1)),
        (2, "no way 'blur'", ("apply", "--network", unet, "--img", odd, "--how", "blur")),
        (2, "--eval is for pix2pix's U-Net", ("apply", "--network", star, "--img", odd, "--eval")),
        (2, "--like needs --encoder", ("apply", "--network", unet, "--img", odd, "--like", odd)),
        (2, "2 domains", ("apply", "--network", star, "--img", odd)),
        (2, "--network, or the names of heads", ("apply", "--img", odd)),
        (2, "--network, or the names of heads", ("apply", "--img", odd, "--network", unet, "--head", "cyclegan:a2b")),
        (2, "cyclegan:young2old", ("apply", "--img", odd, "--head", "cyclegan:yung2old")),
        (2, "--faces is for networks", ("apply", "--img", odd, "--head", "cyclegan:young2old", "--faces")),
        (2, "one photo here", ("apply", "--img", tmp_path / "empty", "--head", "cyclegan:young2old=0.5")),
        (2, "pix2pix", ("fit", "pix2pxi", "--a", tmp_path, "--out", tmp_path / "run")),
        (2, "not a folder", ("fit", "pix2pix", "--a", tmp_path / "none", "--b", tmp_path, "--out", tmp_path / "run")),
        (2, "NAME=VALUE", ("pairs", tmp_path / "p", "--kind", "edited", "--set", "smile")),
        (2, "no number", ("pairs", tmp_path / "p", "--kind", "edited", "--set", "smile=much")),
        (2, "'2' is no range", ("pairs", tmp_path / "p", "--kind", "ranged", "--set", "smile=2")),
        (2, "'2:1' is no range", ("pairs", tmp_path / "p", "--kind", "ranged", "--set", "smile=2:1")),
        (2, "'much' is no number", ("pairs", tmp_path / "p", "--kind", "ranged", "--set", "smile=much:1")),
    ]:  # fmt: skip
        got, _, error = run(*arguments, *(out if arguments[0] == "apply" else ()))
        assert (got, error.count("\n")) == (code, 1) and words in error, (arguments, error)


def test_help_says_whose_number_of_images_it_is(run):
    code, words, _ = run("fit", "--help")
    assert code == 0 and "0: the system's own number." in " ".join(word for word in words if word != "│")


def test_networks_of_one_channel_see_gray(tmp_path, run):
    network, picture = seeded(lambda: UnetGenerator(1, 1, 32, 4)), photo(tmp_path)
    file = saved(tmp_path, network)
    code, lines, error = run("apply", "--network", file, "--img", picture, "--out", tmp_path / "out", "--eval")
    assert code == 0, error
    x = torch.from_numpy(np.array(Image.open(picture))).float() @ torch.tensor([0.299, 0.587, 0.114]) / 127.5 - 1
    with torch.no_grad():
        expected = ((network(x[None, None])[0, 0].clamp(-1, 1) * 127.5) + 127.5).round().numpy()
    assert np.abs(np.asarray(Image.open(lines[0]))[..., 1].astype(float) - expected).max() <= 1
    file = saved(tmp_path, seeded(lambda: ResnetGenerator(5, 3, 1, 4)))
    assert "takes 5 channels" in run("apply", "--network", file, "--img", picture)[2]


def test_originals_and_results_are_not_overwritten(tmp_path, run):
    file, picture = saved(tmp_path, seeded(lambda: UnetGenerator(3, 3, 32, 4))), photo(tmp_path)
    before = picture.read_bytes()
    code, _, error = run("apply", "--network", file, "--img", picture, "--out", picture.parent)
    assert code == 1 and "another --out" in error and picture.read_bytes() == before
    Image.open(picture).save(picture.with_suffix(".jpg"))
    code, lines, _ = run("apply", "--network", file, "--img", picture.parent, "--out", tmp_path / "out")
    assert code == 0 and [line.rsplit("/")[-1] for line in lines] == ["photo.jpg.png", "photo.png.png"]


def test_pix2pix_as_published_has_dropout_and_the_pictures_own_statistics(tmp_path, run):
    file, picture = saved(tmp_path, seeded(lambda: UnetGenerator(3, 3, 64, 4))), photo(tmp_path)
    found = []
    for extra in (("--eval",), (), (), ("--seed", 1)):
        code, lines, _ = run("apply", "--network", file, "--img", picture, "--out", tmp_path / "out", *extra)
        assert code == 0
        found.append(np.asarray(Image.open(lines[0])))
    assert not np.array_equal(found[0], found[1]) and np.array_equal(found[1], found[2])
    assert not np.array_equal(found[1], found[3])


def test_a_picture_is_drawn_alike_whatever_stands_before_it(tmp_path, run):
    file = saved(tmp_path, seeded(lambda: UnetGenerator(3, 3, 64, 4)))
    photo(tmp_path, name="in/a.png")
    Image.open(photo(tmp_path, name="in/b.png")).rotate(90).save(tmp_path / "in" / "b.png")
    run("apply", "--network", file, "--img", tmp_path / "in", "--out", tmp_path / "both")
    run("apply", "--network", file, "--img", tmp_path / "in" / "b.png", "--out", tmp_path / "alone")
    both, alone = (np.asarray(Image.open(tmp_path / name / "b.png")) for name in ("both", "alone"))
    assert np.array_equal(both, alone)


def test_one_bad_picture_does_not_stop_a_folder(tmp_path, run):
    unet = saved(tmp_path, seeded(lambda: UnetGenerator(3, 3, 32, 4)))
    photo(tmp_path, name="in/a.png"), photo(tmp_path, name="in/sub/c.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    code, lines, error = run("apply", "--network", unet, "--img", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1 and error.count("\n") == 1 and "b.png" in error
    assert lines == [str(tmp_path / "out" / "a.png"), str(tmp_path / "out" / "sub" / "c.png")]
    assert run("apply", "--network", unet, "--img", tmp_path / "in" / "a.png", "--size", 64, "--how", "sketch")[0] == 0


SAMPLE = "docs/samples/astronaut.jpg"


@pytest.mark.weights
def test_faces_are_translated_where_they_are(tmp_path, run, weights):
    weights("dlib-landmarks-68")
    network = seeded(lambda: RBDN(3, 3, 4, 2))
    file, out = saved(tmp_path, network), tmp_path / "out"
    code, lines, error = run("apply", "--network", file, "--img", SAMPLE, "--out", out, "--faces", "--size", 64)
    assert code == 0, error
    before, after = np.asarray(Image.open(SAMPLE)), np.asarray(Image.open(lines[0]))
    changed = (before != after).any(2)
    rows, _ = np.nonzero(changed)
    assert before.shape == after.shape and 0.005 < changed.mean() < 0.5  # the face, and no more
    assert rows.max() < before.shape[0] * 0.85  # not the hands
    monkey = photo(tmp_path, (300, 300), "noise/a.png")
    code, _, error = run("apply", "--network", file, "--img", monkey, "--out", out, "--faces")
    assert code == 1 and "No face found in a.png" in error and error.count("\n") == 1
