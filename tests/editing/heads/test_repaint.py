"""Maps of a face's parts: parts found, moved, taken from other maps, and what they leave behind."""

import numpy as np
import pytest

from editing.heads import repaint
from editing.judges.parsing.labels import CLASSES
from stylegan2.errors import UsageError

SIZE = 128


def drawn(**boxes):
    """A map of boxes (x0, y0, x1, y1), later ones over earlier ones, in pixels."""
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for name, each in boxes.items():
        for x0, y0, x1, y1 in each if isinstance(each, list) else [each]:
            labels[y0:y1, x0:x1] = CLASSES.index(name)
    return labels


@pytest.fixture
def face():
    return drawn(
        hair=(24, 10, 104, 80), skin=(36, 30, 92, 112), eyes=[(44, 56, 56, 62), (72, 56, 84, 62)],
        upper_lip=(54, 90, 74, 94), mouth=(56, 94, 72, 96), lower_lip=(54, 96, 74, 102), nose=(60, 64, 68, 82),
    )  # fmt: skip


def test_parts_are_groups_and_some_have_a_left_and_a_right(face):
    assert repaint.box_of(repaint.of(face, "mouth")) == (54 / 128, 90 / 128, 20 / 128, 12 / 128)
    left, right = repaint.of(face, "left_eyes"), repaint.of(face, "right_eyes")
    assert repaint.box_of(left)[0] == 44 / 128 and repaint.box_of(right)[0] == 72 / 128
    assert np.array_equal(left | right, repaint.of(face, "eyes")) and not (left & right).any()
    assert repaint.box_of(repaint.of(face, "glasses")) is None
    for wrong in ("moth", "left_mouth", "", "left_"):
        with pytest.raises(UsageError, match="parts"):
            repaint.of(face, wrong)


def test_a_moved_part_is_where_it_was_sent_with_its_own_shape(face):
    box = repaint.box_of(repaint.of(face, "mouth"))
    after = repaint.moved(face, "mouth", repaint.shifted(box, 8 / 128, 4 / 128))
    assert np.array_equal(repaint.of(after, "mouth"), np.roll(repaint.of(face, "mouth"), (4, 8), (0, 1)))
    assert np.array_equal(after[94:106, 62:82], face[90:102, 54:74])
    assert (after[90:94, 54:74] == CLASSES.index("skin")).all()  # left behind: what is around
    away = np.ones_like(face, bool)
    away[90:106, 54:82] = False
    assert np.array_equal(after[away], face[away])
    larger = repaint.moved(face, "mouth", repaint.shifted(box, 0, 0, 2.0))
    found = repaint.box_of(repaint.of(larger, "mouth"))
    assert found[2] == pytest.approx(2 * box[2], abs=0.02) and found[3] == pytest.approx(2 * box[3], abs=0.02)


def test_hair_that_comes_down_goes_behind_the_inner_face(face):
    box = repaint.box_of(repaint.of(face, "hair"))
    after = repaint.moved(face, "hair", repaint.shifted(box, 0, 0.3))
    assert np.array_equal(repaint.of(after, "eyes"), repaint.of(face, "eyes"))
    assert np.array_equal(repaint.of(after, "nose"), repaint.of(face, "nose"))
    assert (after[10:20, 24:104] != CLASSES.index("hair")).all()
    mouth = repaint.moved(face, "mouth", (44 / 128, 54 / 128, 20 / 128, 12 / 128))  # but a mouth covers an eye
    assert not np.array_equal(repaint.of(mouth, "eyes"), repaint.of(face, "eyes"))


def test_what_is_taken_away_leaves_the_nearest_label(face):
    bare = repaint.without(face, repaint.of(face, "hair"))
    assert not repaint.of(bare, "hair").any()
    assert bare[15, 25] == CLASSES.index("background") and bare[40, 35] == CLASSES.index("skin")
    assert np.array_equal(repaint.without(face, np.zeros_like(face, bool)), face)
    assert np.array_equal(repaint.without(face, np.ones_like(face, bool)), face)  # nothing is left to fill with


def test_boxes_and_parts_that_cannot_be(face):
    for wrong in [(0, 0, 1), (0, 0, 0, 0.1), (2, 0, 0.1, 0.1), (0, -1, 0.5, 0.5), ("a", 0, 1, 1), None,
                  (float("nan"), 0, 1, 1)]:  # fmt: skip
        with pytest.raises(UsageError, match="[Bb]ox"):
            repaint.moved(face, "mouth", wrong)
    with pytest.raises(UsageError, match="has no glasses"):
        repaint.moved(face, "glasses", (0.1, 0.1, 0.2, 0.2))
    half = repaint.moved(face, "mouth", (-0.08, 0.7, 0.16, 0.1))  # partly outside is a place
    assert 0 < repaint.of(half, "mouth").sum() < repaint.of(face, "mouth").sum()
