"""Age and gender presentation in PyTorch: the judges' own numbers, gradients, and files that are not theirs."""

import numpy as np
import pytest
import torch

from encoders.losses import attributes
from stylegan2.checkpoints import onnx
from stylegan2.engine import to_float, to_uint8
from stylegan2.errors import CheckpointError


@pytest.fixture(scope="module")
def networks(weights):
    return attributes.load_age(weights("age-onnx")), attributes.load_gender(weights("gender-onnx"))


def noise(seed, size):
    """A picture of soft noise (size, size, 3) uint8: its ages and odds differ from seed to seed."""
    coarse = torch.rand(1, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return to_uint8(torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 2 - 1)[0]


@pytest.mark.weights
def test_the_judges_say_the_same_of_a_chip(networks):
    judge = pytest.importorskip("editing.judges.judge")
    age, gender = networks
    ages, odds = [], []
    for seed in range(12):
        large, small = noise(seed, 64), noise(seed, 32)
        ages.append([float(age(to_float(large))), judge._age(large)])
        odds.append([float(gender(to_float(small))), judge._male(small)])
    ages, odds = np.array(ages), np.array(odds)
    assert np.ptp(ages[:, 1]) > 1 and np.ptp(odds[:, 1]) > 0.5  # or a constant would pass
    assert np.abs(ages[:, 0] - ages[:, 1]).max() < 1e-3
    assert np.abs(odds[:, 0] - odds[:, 1]).max() < 1e-3


@pytest.mark.weights
@pytest.mark.parametrize("seed", [1, 3, 5])
def test_the_judges_say_nearly_the_same_of_a_face(networks, generated, seed):
    """Of 48 generated faces at psi .8 the age is off by 0.2 years in the median, by 0.6 on average."""
    judge = pytest.importorskip("editing.judges.judge")
    import dlib

    picture = generated(seed)
    scores, shape = judge.judge(picture), judge._predictor("dlib-landmarks-5")(picture, judge._box(picture))
    five = np.array([(p.x, p.y) for p in shape.parts()])
    image = to_float(picture)
    chips = [attributes.age_chips(image, five), attributes.gender_chips(image, five)]
    for chip in chips:
        expected = dlib.get_face_chip(picture, shape, chip.shape[-1], attributes.PADDING)
        assert np.abs(to_uint8(chip)[0].astype(int) - expected).mean() < 1.5
    age, male = (float(network(chip)) for network, chip in zip(networks, chips, strict=True))
    assert age == pytest.approx(scores.values["age"], abs=2)
    assert male == pytest.approx(scores.values["male"], abs=2)
    from_68 = networks[0](attributes.age_chips(image, scores.landmarks))
    assert float(from_68) == pytest.approx(scores.values["age"], abs=5)  # another predictor, other corners


def test_a_chip_is_where_its_face_is():
    """A plane of colour stays that plane, at every depth of the pyramid but for dlib's quarter of a pixel."""
    axis = torch.arange(512, dtype=torch.float64) / 256 - 1
    image = torch.stack([axis.expand(512, 512), axis[:, None].expand(512, 512), torch.zeros(512, 512)])[None]
    for scale, depth in ((1.0, 0), (1.9, 0), (4.3, 2)):
        transform = np.array([[scale, -0.2, 60.25], [0.2, scale, 90.75]])
        chip = attributes.pyramid_chips(image, transform, 32)[0]
        y, x = np.mgrid[:32, :32]
        places = np.stack([x, y, np.ones_like(x)], -1) @ transform.T
        drift = np.array([-0.25, 0.25]) * (2**depth - 1) * 2  # dlib's (1.25, .75) instead of a pixel a halving
        half = (depth + 1) * 0.5 / 127.5  # what rounding down takes
        found = (chip[:2].permute(1, 2, 0).numpy() + half + 1) * 256
        assert np.allclose(found, places + drift, atol=1e-6)


def test_outside_of_the_picture_is_black():
    chip = attributes.pyramid_chips(torch.ones(2, 3, 40, 40), np.array([[1.0, 0, -20], [0, 1.0, 0]]), 32)
    assert (to_uint8(chip)[:, :, :19] == 0).all() and (to_uint8(chip)[:, :, 21:] > 250).all()


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    five = attributes.MEAN_FIVE * 60 + 20
    image = torch.rand(2, 3, 100, 100, dtype=torch.float64) * 2 - 1
    for network, cut in ((attributes.Age(), attributes.age_chips), (attributes.Gender(), attributes.gender_chips)):
        network = network.double()
        given = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(cut(given, five)).sum(), given)
        way = gradient / gradient.norm()
        ahead, behind = (network(cut(image + step * way, five)).sum() for step in (1e-5, -1e-5))
        assert gradient.norm() > 0
        torch.testing.assert_close((ahead - behind) / 2e-5, gradient.norm(), rtol=1e-3, atol=0)
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())


# ------------------------------------------------------------------------------------------- files


def field(number, payload):
    """A protobuf field: bytes with their length, or a number."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def constant(name, array, dims=None, kind=1, raw=9):
    dims = b"".join(field(1, n) for n in (array.shape if dims is None else dims))
    return field(5, dims + field(2, kind) + field(8, name.encode()) + field(raw, array.astype("<f4").tobytes()))


def model(*tensors):
    return field(1, 8) + field(7, field(2, b"graph") + b"".join(tensors))


def gender_tensors():
    """The constants of the smaller network under dlib's names, counted from the output, in a strange order."""
    tensors, number = [constant("layer_5_scalar", np.full(1, 0.5))], 40
    for module in attributes.Gender().modules():
        names = {"Conv2d": ("weights", "bias"), "Linear": ("weights", "bias"), "Affine": ("scale", "offset")}
        for kind, parameter in zip(
            names.get(type(module).__name__, ()), module.parameters(recurse=False), strict=False
        ):
            values = np.arange(parameter.numel(), dtype=np.float32).reshape(parameter.shape) + number
            values = values.T if values.ndim == 2 else values
            shape = (1, -1, 1, 1) if kind in ("scale", "offset") else values.shape
            tensors.append(constant(f"layer_{number}_{kind}", np.ascontiguousarray(values).reshape(shape)))
        number -= 1
    return tensors[::-1]


def test_constants_are_read_by_name(tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(model(*gender_tensors()))
    network = attributes.load_gender(path)
    first, last = network.convs[0], network.fc2
    assert torch.equal(first.weight.flatten() - first.weight.flatten()[0], torch.arange(32.0 * 3 * 9))
    assert torch.equal(last.weight.flatten() - last.weight[0, 0], torch.arange(32.0))  # Gemm's order is undone
    assert first.weight[0, 0, 0, 0] > last.weight[0, 0]  # the numbers count down to the output
    found = onnx.constants(path)
    assert found["layer_5_scalar"] == 0.5 and len(found) == 21


def without(tensors, index):
    return [tensor for i, tensor in enumerate(tensors) if i != index]


DAMAGED = {
    "empty": lambda t: b"",
    "text": lambda t: b"hello " * 1000,
    "a weight too few": lambda t: model(*without(t, 3)),
    "a weight of another size": lambda t: model(*without(t, 0), constant("layer_30_bias", np.zeros(3))),
    "not a number": lambda t: model(*[x.replace(b"\x00\x00\x20\x42", b"\x00\x00\xc0\x7f") for x in t]),
    "a claim of more": lambda t: model(*t, constant("huge", np.zeros(3), dims=(2**40, 2**40))),
    "a negative size": lambda t: model(*t, constant("negative", np.zeros(1), dims=(2**64 - 1,))),
    "another type": lambda t: model(*t, constant("half", np.zeros(3), kind=10)),
    "weights elsewhere": lambda t: model(*t, field(5, field(2, 1) + field(1, 0) + field(13, b"../secret"))),
    "a number where bytes belong": lambda t: model(*t, field(5, 7)),
    "bytes where a number belongs": lambda t: model(*t, field(5, field(2, b"abc"))),
    "a graph that is a number": lambda t: field(7, 3),
    "an endless number": lambda t: b"\xff" * 40,
    "a name that is no text": lambda t: model(*t, field(5, field(1, 0) + field(2, 1) + field(8, b"\xff\xfe"))),
    "an unknown kind of field": lambda t: bytes([3]) + model(*t),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_another_file_is_refused(case, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(DAMAGED[case](gender_tensors()))
    with pytest.raises(CheckpointError, match=r"network\.onnx") as caught:
        attributes.load_gender(path)
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path, whole = tmp_path / "network.onnx", model(*gender_tensors())
    for end in [*range(0, 60), *range(60, len(whole), 7919), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError):
            attributes.load_gender(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        attributes.load_age(tmp_path / "nothing.onnx")


@pytest.mark.weights
def test_one_judge_is_not_the_other(weights):
    with pytest.raises(CheckpointError, match="another network"):
        attributes.load_age(weights("gender-onnx"))
