"""The reader of activations: projecting before upsampling changes nothing, names need agreement, damaged files."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from editing.judges.parsing import reader, training
from editing.judges.parsing.labels import CLASSES, UNKNOWN
from stylegan2 import weights
from stylegan2.errors import CheckpointError


def small(channels=12):
    torch.manual_seed(0)
    return reader.Reader(channels, 5, 7, len(CLASSES)).requires_grad_(False)


def test_projecting_before_upsampling_is_the_same():
    reads, stages = small(), [torch.randn(1, 4, 16, 16), torch.randn(1, 8, 64, 64)]
    full = torch.cat([F.interpolate(x, size=(256, 256), mode="bilinear") for x in stages], 1)
    plain = reads.project(full.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert torch.allclose(reads.components(stages), plain, atol=1e-4)
    assert reads(stages).shape == (1, len(CLASSES), 256, 256)


def test_a_cluster_is_named_only_where_its_points_agree():
    centres = np.array([[0.0], [10.0], [20.0]])
    points = np.array([[0.1], [0.2], [9.9], [10.1], [9.8], [10.2], [10.0]])
    names = reader.named_clusters(centres, points, np.array([1, 2, 8, 8, 8, 8, 3]))
    assert names.tolist() == [UNKNOWN, 8, UNKNOWN]


def test_it_learns_what_it_is_shown():
    reads = small()
    pixels = torch.randn(4000, 7)
    truth = (pixels[:, 0] > 0).long() * 8
    reader.learn(reads, pixels, truth, steps=1000, batch=256)
    with torch.no_grad():
        found = reads.out(F.relu(reads.hidden(pixels))).argmax(1)
    assert (found == truth).float().mean() > 0.9


def test_damaged_weights_are_one_sentence(tmp_path):
    path = tmp_path / "reader.safetensors"
    save_file({name: t for name, t in weights.half(small()).items() if "hidden" not in name}, path)
    with pytest.raises(CheckpointError, match="is missing"):
        reader.load(path)
    save_file(weights.half(small()), path)
    assert reader.load(path).project.in_features == 12


def test_labels_move_with_the_picture():
    images = torch.zeros(4, 3, 256, 256)
    truth = torch.zeros(4, 256, 256, dtype=torch.long)
    images[:, :, 100:160, 60:120] = 1.0
    truth[:, 100:160, 60:120] = CLASSES.index("eyes")
    images[:, :, 0] = 0.5
    shown, moved = training.disturbed(images, truth, 3)
    again, _ = training.disturbed(images, truth, 3)
    assert torch.equal(shown, again) and moved.dtype == torch.long
    for picture, labels in zip(shown, moved, strict=True):
        inside = picture.mean(0)[labels == CLASSES.index("eyes")]
        outside = picture.mean(0)[labels == CLASSES.index("background")]
        assert inside.median() > outside.median() + 0.3
