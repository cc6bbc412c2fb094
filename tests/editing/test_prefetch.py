"""Reading ahead: in order, only so far, errors in their turn, and nothing begun after a close."""

import threading

import pytest

from editing.prefetch import prefetch


def test_results_come_in_order_from_another_thread():
    threads = [call() for call in prefetch(lambda item: (item, threading.get_ident()), range(5))]
    assert [item for item, _ in threads] == list(range(5))
    assert {thread for _, thread in threads} != {threading.get_ident()}
    assert list(prefetch(len, [])) == []


def test_the_next_is_worked_on_while_this_one_is_used():
    begun = [threading.Event() for _ in range(6)]
    calls = prefetch(lambda index: begun[index].set() or index, range(6), ahead=2)
    assert next(calls)() == 0
    assert begun[1].wait(5) and begun[2].wait(5)
    assert not begun[3].wait(0.05), "it ran further ahead than it was told"
    assert next(calls)() == 1 and begun[3].wait(5)
    calls.close()


def test_an_error_is_raised_in_its_turn_and_the_others_go_on():
    calls = list(prefetch(lambda divisor: 6 / divisor, [2, 0, 3]))
    assert calls[0]() == 3 and calls[2]() == 2
    with pytest.raises(ZeroDivisionError):
        calls[1]()


def test_a_close_begins_nothing_more():
    done, hold = [], threading.Event()
    calls = prefetch(lambda item: (hold.wait(5), done.append(item)), range(9), ahead=3)
    next(calls)
    threading.Timer(0.1, hold.set).start()
    calls.close()
    assert len(done) <= 1
