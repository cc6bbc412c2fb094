"""Pictures with masks of their instances: where they are found, how they are cut, and translated by InstaGAN."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from editing.translation import checkpoints, fit, instances
from editing.translation.networks import ResnetGenerator, SetGenerator
from editing.translation.networks.instagan import occupied, one_after_another, united
from editing.translation.systems import SYSTEMS, Settings
from stylegan2.errors import PhotoError, UsageError
from tests.editing.translation.toyscenes import BLUE, saved, square

# ---- data


def test_masks_are_found_in_either_place_and_are_no_pictures(tmp_path, folders):
    saved(tmp_path / "a_seg" / "00_7.png", square(36, 0, 0, 4))  # after a gap
    saved(tmp_path / "a_seg" / "00_10.png", square(36, 0, 0, 5))
    a, b = (instances.Scenes(folder) for folder in folders)
    assert [path.name for path in a.paths] == [f"0{n}.png" for n in range(4)] and len(b) == 3
    assert [mask.name for mask in a.masks[0]] == ["00_0.png", "00_7.png", "00_10.png"]
    assert [mask.name for mask in b.masks[1]] == ["01.mask0.png", "01.mask1.png"]
    every = instances.without_masks(sorted(tmp_path.rglob("*.png")), tmp_path)
    assert len(every) == 7
    picture, masks = b[1]
    assert (picture[masks[0] == 255] == BLUE).all() and (picture[sum(masks) == 0] == 128).all()
    saved(tmp_path / "ones.png", square(36, 3, 3, 9) // 255)
    assert instances.read(tmp_path / "ones.png", (36, 36)).max() == 255  # files of 0 and 1


def test_pictures_and_masks_are_cut_alike_and_sorted_by_size():
    mask, small = square(60, 10, 30, 20), square(60, 45, 5, 6)
    picture = np.dstack([mask, small, mask])
    seen = set()
    for seed in range(6):
        image, masks = instances.augmented(picture, [small, mask], 40, 4, np.random.default_rng(seed))
        torch.testing.assert_close(image[0], masks[0])
        torch.testing.assert_close(image[1], masks[1])
        assert (masks[2:] == -1).all() and masks.shape == (4, 40, 40)
        seen.add(int((masks[0, 12] > 0).nonzero()[0]))
    assert len(seen) > 2
    many = torch.stack([torch.full((4, 4), level) for level in (0.1, 0.9, -0.5, 0.3)])
    assert [m[0, 0].item() for m in instances.largest(many, 2)] == pytest.approx([0.9, 0.3])


def test_batches_are_the_same_every_time(folders):
    source = SYSTEMS["instagan"].source(*folders)
    batch, again = source.batch(3, 2, 32, 7), source.batch(3, 2, 32, 7)
    assert {k: tuple(v.shape) for k, v in batch.items()} == {
        **dict.fromkeys("ab", (2, 3, 32, 32)),
        **{f"{k}_masks": (2, 4, 32, 32) for k in "ab"},
    }
    assert all(torch.equal(batch[k], again[k]) for k in batch) and len(source) == 4 and len(source.b) == 3
    assert not torch.equal(batch["a"], source.batch(4, 2, 32, 7)["a"])
    drawn = united(batch["a_masks"])[:, 0]
    assert (batch["a"][:, 0][drawn > 0.99] > 0.4).all() and (batch["a"][:, 0][drawn == 0] < 0.2).all()


def test_data_that_does_not_fit_is_one_sentence(tmp_path, folders):
    system = SYSTEMS["instagan"]
    with pytest.raises(UsageError, match="two folders"):
        system.source(folders[0])
    with pytest.raises(UsageError, match="leave --labels out"):
        system.source(*folders, tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="not a folder"):
        system.source(folders[0], tmp_path / "none")
    saved(folders[1] / "05.png", np.zeros((36, 36, 3)))
    with pytest.raises(UsageError, match=r"05.png has no mask .* 05.mask0.png beside it, or 05_0.png in b_seg/"):
        system.source(*folders)
    saved(folders[1] / "05.mask0.png", square(30, 1, 1, 5))
    source = system.source(*folders)
    with pytest.raises(PhotoError, match="05.mask0.png is 30x30 pixels, its picture 36x36"):
        source.b[3]
    with pytest.raises(UsageError, match="a multiple of 4"):
        fit.fit("instagan", source, tmp_path / "run", Settings(34))


# ---- use


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make().eval().requires_grad_(False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "latest_net_G_A.pth"
    torch.save(seeded(lambda: SetGenerator(3, 3, 1, 4), 5).state_dict(), path)
    return path


def pixels(x):
    return ((x.clamp(-1, 1) * 127.5) + 127.5).round().byte()


def test_a_picture_and_its_masks_are_translated(tmp_path, run, file):
    rng = np.random.default_rng(0)
    picture = saved(tmp_path / "in" / "photo.png", rng.integers(0, 255, (38, 45, 3)))
    masks = [np.zeros((38, 45), np.uint8) for _ in range(3)]
    for index, mask in enumerate(masks):
        mask[4 : 12 + 6 * index, 3 + index : 20] = 255
    given = [saved(tmp_path / f"m{index}.png", mask) for index, mask in enumerate(masks)]
    options = [text for path in given for text in ("--mask", path)]
    common = ("apply", "--network", file, "--img", picture, "--out", tmp_path / "out")
    code, lines, error = run(*common, *options)
    assert code == 0, error
    assert [Path(line).name for line in lines] == ["photo.png", *(f"photo.mask{n}.png" for n in range(3))]
    x = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None].float() / 127.5 - 1
    y = torch.from_numpy(np.stack(masks))[None].float() / 127.5 - 1
    x, y = (F.pad(t, (0, 3, 0, 2), mode="replicate") for t in (x, y))
    drawn, shapes = one_after_another(checkpoints.load(file), x, y)
    with Image.open(lines[0]) as result:
        assert result.size == (45, 38) and "rainedAlgorithmicMedia" in str(result.info)
        assert (
            np.abs(np.asarray(result).astype(int) - pixels(drawn[0, :, :38, :45]).permute(1, 2, 0).numpy()).max() <= 1
        )
    for line, shape in zip(lines[1:], shapes[0], strict=True):
        found = np.asarray(Image.open(line))[..., 0].astype(int)
        assert np.abs(found - pixels(shape[:38, :45]).numpy()).max() <= 1
    code, lines, _ = run(*common, *options, "--size", 32)
    assert code == 0 and {Image.open(line).size for line in lines} == {(32, 32)}


def test_masks_lie_beside_a_picture_or_in_a_folder_of_theirs(tmp_path, run, file, folders):
    a, b = folders
    both = [run("apply", "--network", file, "--img", path, "--out", tmp_path / "out") for path in (a / "01.png", b)]
    assert [code for code, _, _ in both] == [0, 0]
    assert [Path(line).name for line in both[0][1]] == ["01.png", "01.mask0.png", "01.mask1.png"]
    names = ["00.png", "00.mask0.png", "01.png", "01.mask0.png", "01.mask1.png", "02.png", "02.mask0.png"]
    assert [Path(line).name for line in both[1][1]] == names
    saved(b / "00b.png", np.zeros((36, 36, 3)))
    saved(b / "02.mask0.png", np.zeros((36, 36)))
    code, lines, error = run("apply", "--network", file, "--img", b, "--out", tmp_path / "again")
    assert code == 1 and len(lines) == 5 and error.count("\n") == 2
    assert "00b.png has no mask" in error and "masks of 02.png are black" in error
    again = run("apply", "--network", file, "--img", tmp_path / "out", "--out", tmp_path / "twice")  # and on from there
    assert again[0] == 0 and len(again[1]) == 7


def test_masks_of_which_a_smaller_picture_leaves_nothing_are_one_line(tmp_path, run, file):
    picture = saved(tmp_path / "dot.png", np.zeros((400, 400, 3)))
    dot, large = (saved(tmp_path / f"{side}.png", square(400, 9, 9, side)) for side in (1, 200))
    common = ("apply", "--network", file, "--img", picture, "--size", 16, "--out", tmp_path / "out", "--mask", dot)
    code, lines, error = run(*common)
    assert (code, lines, error.count("\n")) == (1, [], 1) and "left of the masks of dot.png at --size 16" in error
    assert run(*common, "--mask", large)[0] == 0


def test_uses_that_do_not_fit_are_one_line(tmp_path, run, file, folders):
    (a, b), other = folders, tmp_path / "other.safetensors"
    checkpoints.save(seeded(lambda: ResnetGenerator(3, 3, 1, 4)), other)
    photo, mask = a / "00.png", tmp_path / "a_seg" / "00_0.png"
    small, out = saved(tmp_path / "small.png", square(20, 0, 0, 9)), ("--out", tmp_path / "out")
    alone = saved(tmp_path / "alone" / "x.mask0.png", square(20, 0, 0, 9)).parent
    Image.open(photo).save(b / "00.jpg")
    both = ("--img", b / "00.jpg", "--mask", b / "00.mask0.png", "--out", b)
    for code, words, arguments in [
        (2, "--mask is for InstaGAN", ("--network", other, "--img", photo, "--mask", mask)),
        (2, "--mask is for one picture", ("--network", file, "--img", a, "--mask", mask)),
        (2, "--mask is for networks", ("--head", "cyclegan:young2old", "--img", photo, "--mask", mask)),
        (2, "--faces is for", ("--network", file, "--img", photo, "--mask", mask, "--faces")),
        (2, "--label is for", ("--network", file, "--img", photo, "--mask", mask, "--label", 1)),
        (2, "--eval is for pix2pix", ("--network", file, "--img", photo, "--mask", mask, "--eval")),
        (2, "but masks", ("--network", file, "--img", alone)),
        (1, "has no mask", ("--network", file, "--img", small)),
        (1, "No such file", ("--network", file, "--img", tmp_path / "none.png")),
        (1, "No such file", ("--network", file, "--img", photo, "--mask", tmp_path / "none.png")),
        (1, "small.png is 20x20 pixels, its picture 36x36", ("--network", file, "--img", photo, "--mask", small)),
        (1, "choose another --out", ("--network", file, "--img", photo, "--out", a)),
        (1, "choose another --out", ("--network", file, *both)),
    ]:  # fmt: skip
        got, _, error = run("apply", *arguments, *(() if "--out" in arguments else out))
        assert (got, error.count("\n")) == (code, 1) and words in error, (arguments, error)
    assert not occupied(-torch.ones(1, 4, 4)).any()
