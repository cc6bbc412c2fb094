"""The thread that draws for everybody: what is urgent goes first, what is slow can be watched and stopped."""

import threading

import pytest

from stylegan2.errors import UsageError
from ui.engine import CANCELLED, DONE, FAILED, WAITING, Engine


@pytest.fixture
def engine():
    return Engine()


def test_work_is_done_on_one_thread_and_its_answer_comes_back(engine):
    names = {engine.run(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"wplus-engine"}
    assert engine.run(lambda: engine.run(lambda: 5)) == 5  # also from the thread itself


def test_an_error_reaches_who_asked_and_nobody_else(engine):
    with pytest.raises(UsageError, match="no such"):
        engine.run(lambda: (_ for _ in ()).throw(UsageError("no such")))
    assert engine.run(lambda: 1) == 1


def test_slow_work_is_watched(engine):
    def work(progress):
        return [progress(step, 3, "x") for step in (1, 2, 3)]

    job = engine.start(work)
    assert job.wait(10) and job.over
    assert (job.state, job.step, job.total, job.result) == (DONE, 3, 3, [True] * 3)


def test_urgent_work_is_done_in_the_middle_of_slow_work(engine):
    begun, order = threading.Event(), []

    def slow(progress):
        begun.set()
        for step in range(2000):
            order.append("slow")
            progress(step, 2000)
            if "urgent" in order:
                return step
            threading.Event().wait(0.005)

    job = engine.start(slow)
    assert begun.wait(10)
    engine.run(lambda: order.append("urgent"))
    assert not job.over or order[-1] == "urgent"
    assert job.wait(10) and job.result < 1999


def test_slow_work_stops_between_steps_and_what_waits_never_begins(engine):
    begun = threading.Event()

    def endless(progress):
        begun.set()
        while progress(1, 2):
            threading.Event().wait(0.002)

    first, second, third = (engine.start(endless) for _ in range(3))
    assert begun.wait(10)
    assert second.state == WAITING and engine.ahead(second) == 1 and engine.ahead(third) == 2
    third.cancel()
    second.cancel()
    first.cancel()
    assert all(job.wait(10) for job in (first, second, third))
    assert {job.state for job in (first, second, third)} == {CANCELLED}
    assert second.step == 0


def test_slow_work_that_fails_keeps_its_error_and_the_engine_goes_on(engine):
    job = engine.start(lambda progress: 1 / 0)
    assert job.wait(10) and job.state == FAILED and isinstance(job.error, ZeroDivisionError)
    assert engine.run(lambda: 2) == 2


def test_two_askers_get_their_own_answers(engine):
    answers = {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: engine.run(lambda: i * i)})) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == {i: i * i for i in range(20)}


def test_what_may_wait_comes_after_what_is_urgent(engine):
    gate, order = threading.Event(), []
    threads = [threading.Thread(target=lambda: engine.run(gate.wait))]
    threads += [threading.Thread(target=lambda: engine.run(lambda: order.append("soon"), urgent=False))]
    threads += [threading.Thread(target=lambda: engine.run(lambda: order.append("urgent")))]
    for thread in threads:
        thread.start()
        threading.Event().wait(0.1)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert order == ["urgent", "soon"]
