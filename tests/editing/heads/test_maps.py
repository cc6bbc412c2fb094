"""SPADE's head: its normalisation, collages, what it leaves alone, and files that are no head."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from editing.heads import maps
from editing.judges.parsing.labels import CLASSES
from stylegan2.errors import CheckpointError, UsageError, WplusError

SKIN, HAIR, EYES = (CLASSES.index(name) for name in ("skin", "hair", "eyes"))


def halves(left=SKIN, right=HAIR):
    labels = torch.full((1, maps.SIDE, maps.SIDE), left)
    labels[..., maps.SIDE // 2 :] = right
    return labels


def test_spades_normalisation_is_its_formula():
    torch.manual_seed(0)
    block, x, seen = maps.SpadeBlock(6, 4), torch.randn(2, 6, 8, 8), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        h = x
        for modulate, conv in zip(block.modulate, block.conv, strict=True):
            gamma, beta = modulate(seen).chunk(2, 1)
            mean, std = h.mean((2, 3), keepdim=True), h.var((2, 3), correction=0, keepdim=True).add(1e-5).sqrt()
            h = conv(F.leaky_relu(gamma * (h - mean) / std + (h - mean) / std + beta, 0.2))
        torch.testing.assert_close(block(x, seen), x + h)


def test_a_collage_copies_from_the_nearest_cell_of_the_same_part():
    x = torch.arange(32.0).expand(1, 3, 32, 32).clone()  # a feature is its column
    known = torch.ones(1, 1, 32, 32)
    known[..., 12:20] = 0
    begun, copied = maps.collage(x, known, halves())
    assert (begun[0, 0, :, 12:16] == 11).all() and (begun[0, 0, :, 16:20] == 20).all()
    assert (copied[..., 12:20] == 1).all() and copied.sum() == 8 * 32
    assert torch.equal(begun[..., :12], x[..., :12])
    known[..., 16:] = 0  # of hair, nothing is known any more
    begun, copied = maps.collage(x, known, halves())
    assert (begun[..., 16:] == 0).all() and (copied[..., 16:] == 0).all() and (copied[..., 12:16] == 1).all()


def test_a_collage_copies_from_cells_that_have_nothing_else_where_there_are_such():
    x = torch.arange(32.0).expand(1, 3, 32, 32).clone()
    known = torch.ones(1, 1, 32, 32)
    known[..., 8:16] = 0
    labels = halves()
    labels[..., 28:31] = EYES  # column 7 of the cells: a quarter of it is skin
    labels[..., 20:24] = EYES
    labels[..., 20] = SKIN
    begun, _ = maps.collage(x, known, labels)
    assert (begun[0, 0, :, 8:16] == 6).all()


def test_small_parts_are_seen_in_cells_that_they_half_fill():
    labels = torch.full((1, maps.SIDE, maps.SIDE), SKIN)
    labels[0, 40:42, 40:44] = EYES  # half of a cell
    assert maps.coarse(maps.shares(labels))[0, 10, 10] == EYES
    labels[0, 40:42, 40:44] = HAIR
    labels[0, 40, 40] = HAIR
    assert (maps.coarse(maps.shares(labels)) == SKIN).sum() >= 32 * 32 - 1


def test_what_does_not_change_stays_as_it_is_to_the_bit():
    head = maps.shipped()
    x, ws = torch.randn(1, 512, 32, 32), torch.randn(1, 16, 512)
    same = head.edit(x, halves(), halves(), ws)
    assert same.mask.abs().max() == 0
    other = halves()
    other[0, :20, :20] = HAIR
    edit = head.edit(x, halves(), other, ws)
    assert edit.mask[0, 0, 0, 0] == 1 and edit.residual.abs().mean() > 0.01
    assert (edit.mask[..., 9:, :] == 0).all() and (edit.mask[..., 9:] == 0).all()
    assert torch.equal(edit.base_ws, ws)


def test_features_that_came_along_are_taken_as_they_are():
    head, x = maps.shipped(), torch.randn(1, 512, 32, 32)
    at = torch.zeros(1, 1, 32, 32)
    at[..., 20:24, 20:24] = 1
    came = torch.randn_like(x)
    edit = head.edit(x, halves(), halves(), torch.zeros(1, 16, 512), maps.Carried(came, at))
    after = x + edit.mask * edit.residual
    torch.testing.assert_close(after[..., 20:24, 20:24], came[..., 20:24, 20:24])
    assert torch.equal(after[..., :20, :], x[..., :20, :])


def test_a_map_says_what_is_where_and_the_style_the_rest():
    head, style = maps.shipped(), torch.randn(2, 16, 512)
    ws = head.draw(torch.cat([halves(), halves(HAIR, SKIN)]), style)
    assert torch.equal(ws[:, maps.SHAPED :], style[:, maps.SHAPED :])
    assert not torch.allclose(ws[0, : maps.SHAPED], ws[1, : maps.SHAPED], atol=0.05)
    assert torch.equal(
        head.draw(halves(), style[:1])[:, : maps.SHAPED], head.draw(halves(), style[1:])[:, : maps.SHAPED]
    )


def test_a_head_is_written_and_read_as_it_was(tmp_path):
    torch.manual_seed(1)
    head = replace(maps.shipped(), painter=maps.Painter(512, 16, 8, 1).eval())
    maps.save(head, tmp_path / "head.safetensors")
    again = maps.load(tmp_path / "head.safetensors")
    for part in maps.MAKERS:
        for (name, a), b in zip(getattr(head, part).state_dict().items(), getattr(again, part).state_dict().values(),
                                strict=True):  # fmt: skip
            torch.testing.assert_close(a.half().float(), b, msg=name)
    assert len(again.sha256) == 64


@pytest.mark.parametrize(
    "change,error",
    [
        (lambda facts, tensors: facts.update(format="other"), UsageError),
        (lambda facts, tensors: facts.update(classes=["hair"]), UsageError),
        (lambda facts, tensors: facts.update(encoder="0" * 64), UsageError),
        (lambda facts, tensors: tensors.pop("painter.scale"), CheckpointError),
        (lambda facts, tensors: tensors.update({"painter.out.bias": torch.zeros(7)}), CheckpointError),
        (lambda facts, tensors: tensors.update({"layout.out.bias": torch.full((1536,), torch.nan)}), CheckpointError),
    ],
)
def test_files_that_are_no_head_are_one_sentence(tmp_path, change, error):
    from safetensors import safe_open

    with safe_open(maps.FILE, "pt") as file:
        facts = json.loads(file.metadata()["heads"])
    tensors = load_file(maps.FILE)
    change(facts, tensors)
    save_file(tensors, tmp_path / "x.safetensors", metadata={"heads": json.dumps(facts)})
    with pytest.raises(error) as caught:
        maps.load(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(WplusError):
        maps.load(tmp_path / "junk.safetensors")
