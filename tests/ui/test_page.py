"""What every view of the page needs: changes that come from it, and texts that are shown as they are."""

from types import SimpleNamespace

import pytest

from editing import dragging, session
from editing.types import Step, latent_step
from ui import page
from ui.views import edit, verdict


class State(dict):
    """Streamlit's session state, by name or by item."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


@pytest.fixture
def state(monkeypatch):
    opened = SimpleNamespace(photo=SimpleNamespace(sha256="a photo"), face=1)
    state = State(studio=SimpleNamespace(current=opened))
    monkeypatch.setattr(page.st, "session_state", state)
    return state


def message(number, *batches):
    return {"changes": {"number": number, "batches": list(batches)}}


def test_changes_are_read_once_and_in_order(state):
    here = page.place("hair")
    state.sliders = message(7, [here, {"smile": 1}], [page.place(), {"age": 2, "yaw": 3}])
    assert page.changes("sliders", "changes") == [("hair", {"smile": 1}), (None, {"age": 2, "yaw": 3})]
    assert page.seen("sliders") == 7 and page.changes("sliders", "changes") == []
    state.sliders = message(8, [here, {"smile": 1}])
    assert page.changes("sliders", "changes") == [("hair", {"smile": 1})] and page.seen("places", "boxes") == 0


def test_changes_of_another_photo_or_face_are_left_out(state):
    places = [["another", 1, None], ["a photo", 0, "hair"], page.place("eyes")]
    state.sliders = message(1, *([place, {"smile": 1}] for place in places))
    assert page.changes("sliders", "changes") == [("eyes", {"smile": 1})] and page.seen("sliders") == 1


def test_two_outboxes_of_a_component_are_read_apart(state):
    state.viewer = message(5, [page.place(), {"a": 1}]) | {
        "acts": {"number": 9, "batches": [[page.place(), {"1": ["undo", None]}]]}
    }
    assert page.changes("viewer") == [(None, {"a": 1})]
    assert page.changes("viewer", "acts") == [(None, {"1": ["undo", None]})]
    assert (page.seen("viewer"), page.seen("viewer", "acts")) == (5, 9) and page.changes("viewer") == []


def test_what_is_sent_again_was_done_before(state, monkeypatch):
    done, state.lang = [], "en"
    monkeypatch.setattr(edit, "undo", lambda: done.append("undo"))
    monkeypatch.setattr(edit, "redo", lambda: done.append("redo"))
    undo, redo, points = ["undo", None], ["redo", None], ["points", [[1, 2, 3, 4]]]
    for number, acts in ((1, {"11": undo}), (2, {"11": undo, "13": redo, "12": points}), (3, {"13": redo})):
        state.viewer = {"acts": {"number": number, "batches": [[page.place(), acts]]}}
        edit.acted("viewer", {"points": done.append})
    assert done == ["undo", [[1, 2, 3, 4]], "redo"]
    state.viewer = {"acts": {"number": 4, "batches": [[page.place(), {"21": ["mask", "no picture"], "22": undo}]]}}
    edit.acted("viewer", {})
    assert state.problem and done[-1] == "undo"  # what goes wrong is told, and stops nothing else
    state.other = {"acts": {"number": 4, "batches": [[page.place(), {"5": redo}]]}}
    edit.acted("other", {})
    assert done[-1] == "redo"  # another picture has numbers of its own


def test_the_brush_means_the_mask_of_this_face(state):
    state.studio.masks = {"mask:a": None, "mask:b": None}
    steps = [SimpleNamespace(region=region) for region in ("hair", "mask:a", "mask:gone", None)]
    state.studio.steps, state.brush, state.region = lambda: steps, None, "brush"
    assert edit.brush(state) == "mask:a"  # the page was loaded anew
    state.brush = (page.place(), "mask:b")
    assert edit.brush(state) == "mask:b" and not edit.unpainted(state)
    state.brush = (page.place(), None)
    assert edit.brush(state) is None and edit.unpainted(state)
    state.brush = (["another photo", 0, None], "mask:b")
    steps.clear()
    assert edit.brush(state) is None


def test_a_slider_for_the_brush_finds_the_mask_that_came_since(state):
    done, state.lang, state.brush = [], "en", None
    state.studio.masks, state.studio.steps = {}, lambda: []
    state.studio.set = lambda edits, place, **_: done.append((edits, place))
    state.sliders = message(1, (page.place("brush"), {"smile": {"value": 1, "stroke": 1}}))
    edit.slid()
    assert state.news and not done
    state.brush = (page.place(), "mask:b")
    state.sliders = message(2, (page.place("brush"), {"smile": {"value": 1, "stroke": 1}}))
    edit.slid()
    assert done == [({"smile": 1}, "mask:b")]


@pytest.mark.parametrize("nothing", [None, {}, {"changes": None}])
def test_nothing_came(state, nothing):
    state.sliders = nothing
    assert page.changes("sliders", "changes") == [] and page.seen("sliders") == 0


@pytest.mark.parametrize(
    "text", ["*a*", "_b_", "[x](http://a.b)", "![x](y)", ":material/delete:", "a`b`", "$x$", "# 1"]
)
def test_names_are_no_markdown(text):
    shown = page.plain(text)
    assert shown.replace("\\", "") == text
    assert all(shown[at - 1] == "\\" for at, letter in enumerate(shown) if letter in "*_[]`:$#<>")


def test_what_has_no_name_aims_at_nothing(state):
    state.studio.engine = SimpleNamespace(catalogue=session.load_catalogue())
    for step in (dragging.step_of([[0.4, 0.6, 0.4, 0.5]], 0), Step(op="paint", parameters={"labels": "x"})):
        assert verdict.targeted(state, step) == []
    assert verdict.targeted(state, latent_step("smile", 1.0)) == ["smile"]
    assert verdict.targeted(state, latent_step("pca-0-7-3.1", 1.0)) == [""]
