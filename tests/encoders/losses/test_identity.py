"""The identity network: dlib's descriptor and geometry, gradients, and files that are not dlib's."""

import numpy as np
import pytest
import torch

from encoders.losses import identity
from stylegan2.engine import to_float, to_uint8
from stylegan2.errors import CheckpointError


@pytest.fixture(scope="module")
def dat(weights):
    return weights("dlib-face-recognition")


@pytest.fixture(scope="module")
def network(dat):
    return identity.load(dat)


@pytest.fixture(scope="module")
def found(weights, generated):
    """dlib's own view of a generated face: (picture, its 68-point shape, the points, the chip, the descriptor)."""
    dlib = pytest.importorskip("dlib")
    picture = generated(1)  # turned to the side, and the head a little tilted
    (box,) = dlib.get_frontal_face_detector()(picture[::2, ::2].copy(), 0)
    box = dlib.rectangle(*(2 * v for v in (box.left(), box.top(), box.right(), box.bottom())))
    shape = dlib.shape_predictor(str(weights("dlib-landmarks-68")))(picture, box)
    chip = dlib.get_face_chip(picture, shape, identity.CHIP_SIZE, identity.PADDING)
    recognition = dlib.face_recognition_model_v1(str(weights("dlib-face-recognition")))
    points = np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)
    return picture, shape, points, chip, np.array(recognition.compute_face_descriptor(chip))


@pytest.mark.weights
def test_descriptor_is_dlibs(network, found):
    *_, chip, expected = found
    descriptor = network(to_float(chip))[0].numpy()
    assert descriptor.shape == (128,) and np.linalg.norm(expected) > 1
    assert np.abs(descriptor - expected).max() < 1e-3


@pytest.mark.weights
def test_chip_geometry_is_dlibs(found):
    import dlib

    _, shape, points, _, _ = found
    box = dlib.get_face_chip_details(shape, identity.CHIP_SIZE, identity.PADDING).rect
    angle = dlib.get_face_chip_details(shape, identity.CHIP_SIZE, identity.PADDING).angle
    transform = identity.chip_transform(points)
    ends = transform @ np.array([[0, 149], [74.5, 74.5], [1, 1]])
    assert abs(angle) > 0.01  # or a wrong sign would not show
    assert np.arctan2(*(ends[:, 1] - ends[:, 0])[::-1]) == pytest.approx(angle, abs=1e-6)
    assert np.linalg.norm(ends[:, 1] - ends[:, 0]) == pytest.approx(box.right() - box.left(), abs=1e-3)
    middle = [(box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2]
    assert np.allclose(ends.mean(1), middle, atol=1e-3)


@pytest.mark.weights
def test_extracted_chip_is_dlibs_but_for_its_filter(network, found):
    """dlib shrinks with a smoother pyramid; the picture is the same and so, nearly, is the descriptor."""
    picture, _, points, chip, expected = found
    chips = identity.extract_chips(to_float(picture), identity.chip_transform(points))
    assert chips.shape == (1, 3, 150, 150)
    assert np.abs(to_uint8(chips)[0].astype(int) - chip).mean() < 4
    moved = identity.extract_chips(to_float(picture), identity.chip_transform(points + 10))
    assert np.abs(to_uint8(moved)[0].astype(int) - chip).mean() > 6  # the measure sees two pixels of the chip
    assert np.linalg.norm(network(chips)[0].numpy() - expected) < 0.1


@pytest.mark.weights
def test_one_person_is_nearer_than_another(network, found, generated):
    picture, _, points, _, expected = found
    other = to_float(generated(2))
    descriptor = network(identity.extract_chips(other, identity.chip_transform(points)))[0].numpy()
    assert np.linalg.norm(descriptor - expected) > 0.6


@pytest.mark.weights
def test_identity_distance_pulls_a_picture(network, found):
    picture, _, points, _, expected = found
    transform, goal = identity.chip_transform(points), torch.from_numpy(expected).float()
    image = to_float(picture[::4, ::4]).mean(1, keepdim=True).repeat(1, 3, 1, 1).requires_grad_()  # grey, 256x256

    def distance(image):
        return (network(identity.extract_chips(image, transform / 4)) - goal).square().sum()

    before = distance(image)
    (gradient,) = torch.autograd.grad(before, image)
    assert gradient.isfinite().all() and gradient.abs().amax(1)[0, 100:200, 70:180].mean() > 0
    after = distance(image - 0.1 * before * gradient / gradient.square().sum())
    assert after < 0.97 * before
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def face(scale=1.0, angle=0.0, shift=(0.0, 0.0)):
    """The mean face in chip pixels, turned, scaled and moved; landmarks that no chip looks at stay zero."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.zeros((68, 2))
    points[list(identity.ANCHORS)] = ((identity.MEAN_FACE + 0.25) / 1.5 * 150) @ turn.T + shift
    return points


def test_chip_transform_undoes_a_similarity():
    expected = identity.chip_transform(face())
    assert np.allclose(expected, [[1, 0, 0], [0, 1, 0]], atol=0.6)  # dlib's box of pixels ends half a pixel in
    transform = identity.chip_transform(face(3, 0.4, (50, -20)))
    turn = 3 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    centre = transform @ [74.5, 74.5, 1]
    assert np.allclose(centre, turn @ [75, 75] + [50, -20])
    assert np.allclose(transform[:, :2] / turn, (150 - 1 / 3) / 149)


@pytest.mark.parametrize("scale", [1.0, 2.5, 3.9, 5.2])
def test_extract_chips_samples_pixel_centres(scale):
    """A plane of colour stays that plane: each chip pixel has the colour of the place it is cut from."""
    size = 1024
    axis = torch.arange(size, dtype=torch.float64) / size
    image = torch.stack([axis.expand(size, size), axis[:, None].expand(size, size), torch.zeros(size, size)])[None]
    transform = np.array([[scale, -0.3, 120.25], [0.3, scale, 90.75]])
    chip = identity.extract_chips(image, transform)[0]
    y, x = np.mgrid[:150, :150]
    places = np.stack([x, y, np.ones_like(x)], -1) @ transform.T / size
    assert np.allclose(chip[:2].permute(1, 2, 0).numpy(), places, atol=1e-6)


@pytest.mark.parametrize("scale", [2.1, 3.5, 4.5, 5.5])
def test_large_faces_are_averaged_before_sampling(scale):
    """Single-pixel noise is mostly gone in a chip several times smaller, whatever the factor."""
    image = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    chip = identity.extract_chips(image, np.array([[scale, 0, 20.0], [0, scale, 20.0]]))
    assert chip.std() < 1.1 / max(n for n in (1, 2, 4) if n <= scale)


def test_chips_of_a_batch_are_independent():
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    transform = identity.chip_transform(face(0.4, 0.1, (3, 4)))
    torch.testing.assert_close(
        identity.extract_chips(images, transform)[1:2], identity.extract_chips(images[1:2], transform)
    )


def tensor(*shape, values=None):
    """dlib's stream of a tensor, version 2."""
    values = np.arange(np.prod(shape), dtype="<f4") if values is None else values
    return b"".join(bytes([4]) + int(n).to_bytes(4, "little") for n in (2, *shape)) + values.tobytes()


def named(name):
    return bytes([1, len(name)]) + name


def stream():
    """The layers of the network in dlib's notation, all zeros."""
    parts = []
    for module in identity.FaceDescriptor().modules():
        if isinstance(module, (torch.nn.Conv2d, identity.Affine)):
            weight = module.weight if isinstance(module, torch.nn.Conv2d) else module.gain
            kind = b"con_4" if isinstance(module, torch.nn.Conv2d) else b"affine_"
            parts.append(named(kind) + tensor(weight.numel() + module.bias.numel(), 1, 1, 1))
    return parts, named(b"fc_2") + bytes([1, 128, 2, 0, 1]) + tensor(256, 128, 1, 1)


def test_the_stream_is_read_in_order(tmp_path):
    path = tmp_path / "network.dat"
    layers, last = stream()
    path.write_bytes(b"".join(layers) + last)
    network = identity.load(path)
    assert torch.equal(network.fc.weight.T.reshape(-1), torch.arange(256.0 * 128))
    assert torch.equal(network.conv.weight.reshape(-1), torch.arange(32.0 * 3 * 49))
    assert torch.equal(network.conv.bias, torch.arange(32.0 * 3 * 49, 32 * 3 * 49 + 32))
    assert torch.equal(network.affine.bias, torch.arange(32.0, 64))


NOT_DLIB = {
    "empty": lambda layers, last: b"",
    "text": lambda layers, last: b"hello " * 1000,
    "no last layer": lambda layers, last: b"".join(layers),
    "a layer too many": lambda layers, last: b"".join([layers[0], *layers]) + last,
    "layers in another order": lambda layers, last: b"".join([*layers[1:], layers[0]]) + last,
    "last layer of another size": lambda layers, last: b"".join(layers) + last[:11] + tensor(256, 64, 1, 1),
    "a tensor of version 3": lambda layers, last: (
        b"".join(layers).replace(tensor(64, 1, 1, 1)[:5], b"\x04\x03\0\0\0") + last
    ),
    "more than there is": lambda layers, last: (
        b"".join(layers) + last[:11] + tensor(2**30, 2**30, 2**30, 1, values=NONE)
    ),
    "negative": lambda layers, last: b"".join(layers) + last[:11] + b"\x01\x02\x81\x02\x81\x02\x01\x01\x01\x01",
}
NONE = np.zeros(0)


@pytest.mark.parametrize("case", NOT_DLIB)
def test_another_file_is_refused(case, tmp_path):
    path = tmp_path / "network.dat"
    path.write_bytes(NOT_DLIB[case](*stream()))
    with pytest.raises(CheckpointError) as caught:
        identity.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    layers, last = stream()
    whole = b"".join(layers) + last
    path = tmp_path / "network.dat"
    for end in [*range(1, 40, 3), *range(len(whole) - len(last) - 2, len(whole) - len(last) + 40, 2), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError):
            identity.load(path)


@pytest.mark.weights
def test_the_real_file_cut_short_is_refused(dat, tmp_path):
    path = tmp_path / "network.dat"
    for share in (0.3, 0.9, 0.999):
        path.write_bytes(dat.read_bytes()[: int(dat.stat().st_size * share)])
        with pytest.raises(CheckpointError, match="truncated|is not dlib's"):
            identity.load(path)
