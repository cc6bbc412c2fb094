"""Undo and redo over recipes."""

from editing.types import Recipe, latent_step
from ui.history import LIMIT, History


def recipe(strength):
    return Recipe(steps=(latent_step("smile", strength),))


def test_undo_and_redo_walk_over_what_was_done():
    history = History().do(recipe(1)).do(recipe(2))
    assert history.undo().present == recipe(1)
    assert history.undo().undo().present == Recipe()
    assert history.undo().redo() == History(recipe(2), (Recipe(), recipe(1)), ())


def test_there_is_nothing_before_the_beginning_and_after_the_end():
    assert History().undo() == History() and History().redo() == History()


def test_what_was_undone_is_forgotten_when_something_else_is_done():
    history = History().do(recipe(1)).undo().do(recipe(3))
    assert history.redo() == history and history.undo().present == Recipe()


def test_a_stroke_is_one_thing_done():
    history = History().do(recipe(1), "a").do(recipe(2), "a").do(recipe(3), "a")
    assert history.present == recipe(3) and history.undo().present == Recipe()
    history = history.do(recipe(4), "b")
    assert history.undo().present == recipe(3)


def test_a_stroke_that_is_taken_back_begins_anew():
    history = History().do(recipe(1), "a").undo().do(recipe(2), "a")
    assert history.undo().present == Recipe()


def test_doing_the_same_again_is_nothing_done():
    history = History().do(recipe(1))
    assert history.do(recipe(1)).undo().present == Recipe()


def test_a_stroke_that_begins_with_nothing_done_takes_nothing_away():
    history = History().do(recipe(2)).do(recipe(2), "a").do(recipe(3), "a")
    assert history.undo().present == recipe(2) and history.undo().undo().present == Recipe()
    history = History().do(recipe(1), "a").do(recipe(2), "a").do(recipe(2), "a").do(recipe(3), "a")
    assert history.past == (Recipe(),)


def test_what_is_put_in_the_place_of_the_present_leaves_the_rest():
    history = History().do(recipe(1)).do(recipe(2)).do(recipe(3)).undo()
    assert history.instead(recipe(9)).line == (Recipe(), recipe(1), recipe(9), recipe(3))


def test_any_place_can_be_gone_to_and_nothing_is_lost():
    history = History().do(recipe(1)).do(recipe(2)).to(0)
    assert history.present == Recipe() and history.line == (Recipe(), recipe(1), recipe(2))
    assert history.to(99).present == recipe(2)


def test_only_so_many_are_remembered():
    history = History()
    for strength in range(1, LIMIT + 20):
        history = history.do(recipe(strength))
    assert len(history.past) == LIMIT and history.present == recipe(LIMIT + 19)
