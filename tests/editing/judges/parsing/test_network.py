"""The parser's network: shapes, damaged files, and that the shipped one reads real pictures."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from editing.judges.parsing import network
from editing.judges.parsing.labels import CLASSES, from_landmarks, intersection_over_union
from stylegan2 import weights
from stylegan2.errors import CheckpointError
from tests.encoders import toys


def parser():
    torch.manual_seed(0)
    return network.Parser(toys.image_network(), network.Decoder(len(CLASSES))).eval()


@pytest.mark.parametrize("side", [64, 256, 300, 1024])
def test_every_picture_is_read_at_one_size(side):
    picture = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    found = network.probabilities(picture, parser())
    assert found.shape == (256, 256, len(CLASSES)) and np.allclose(found.sum(-1), 1, atol=1e-5)
    labels = network.parse(picture, parser())
    assert labels.dtype == np.uint8 and np.array_equal(labels, found.argmax(-1))


def test_an_answer_does_not_depend_on_what_else_is_in_the_batch():
    images, reads = torch.rand(2, 3, 256, 256) * 2 - 1, parser()
    with torch.no_grad():
        assert torch.allclose(reads(images)[1:], reads(images[1:]), atol=1e-5)


def test_a_mirror_image_is_read_the_same():
    picture = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    reads = parser()
    mirrored = network.probabilities(np.ascontiguousarray(picture[:, ::-1]), reads)
    assert np.allclose(network.probabilities(picture, reads), mirrored[:, ::-1], atol=1e-5)


def test_damaged_weights_are_one_sentence(tmp_path):
    state = weights.half(network.Decoder(len(CLASSES)))
    path = tmp_path / "parser.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read as a face parser"):
        network.load(path)
    save_file({name: tensor for name, tensor in state.items() if "out" not in name}, path)
    with pytest.raises(CheckpointError, match="is missing"):
        network.load(path)
    save_file(state | {"out.bias": torch.full((4 * len(CLASSES),), torch.nan)}, path)
    with pytest.raises(CheckpointError, match="finite"):
        network.load(path)


@pytest.mark.weights
def test_the_shipped_parser_agrees_with_landmarks_on_faces_it_never_saw():
    from editing.judges.judge import locate
    from stylegan2 import checkpoints, engine, zoo

    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    found, truth = [], []
    for _, _, picture in engine.faces(generator, range(4), 0.7):
        found.append(network.parse(picture))
        truth.append(from_landmarks(locate(picture), len(picture), 256))
    scores = intersection_over_union(np.stack(found), np.stack(truth))
    assert np.mean(list(scores.values())) > 0.75, scores
    assert 0.02 < np.mean(np.stack(found) == CLASSES.index("hair")) < 0.5
