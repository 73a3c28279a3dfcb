"""The thread that is there only while there is something to do."""

from __future__ import annotations

import threading

import pytest

from codesmith.tunnel.worker import Worker
from tests.waiting import eventually


@pytest.mark.parametrize("wakes", [1, 3])
def test_work_that_is_asked_for_meanwhile_is_done_once_more(wakes):
    begun, go_on, done = threading.Semaphore(0), threading.Semaphore(0), []

    def work():
        begun.release()
        go_on.acquire()
        done.append(threading.current_thread())

    worker = Worker("keep", work)
    worker.wake()
    begun.acquire()
    for _ in range(wakes):
        worker.wake()
    go_on.release(2)
    eventually(lambda: not worker.is_running)
    assert len(done) == 2
    assert len(set(done)) == 1


def test_a_wait_ends_with_the_next_wake():
    waiting, waited = threading.Event(), threading.Event()

    def work():
        if not waited.is_set():
            worker.begin()
            waiting.set()
            worker.wait(3600)
            waited.set()

    worker = Worker("keep", work)
    worker.wake()
    waiting.wait()
    worker.wake()
    assert waited.wait(10)
    eventually(lambda: not worker.is_running)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_fails_can_be_asked_for_again():
    tries = []

    def work():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")

    worker = Worker("keep", work)
    worker.wake()
    eventually(lambda: not worker.is_running)
    worker.wake()
    eventually(lambda: len(tries) == 2 and not worker.is_running)


def test_without_a_thread_it_waits_for_the_next_wake(monkeypatch):
    done = threading.Event()
    worker = Worker("keep", done.set)

    def no_thread(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", no_thread)
        worker.wake()
    assert not worker.is_running
    worker.wake()
    assert done.wait(10)
    eventually(lambda: not worker.is_running)
