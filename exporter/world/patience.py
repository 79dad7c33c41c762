"""How long do we wait for a system call that may never return? Until the token's deadline, and never with two threads.

A dead NFS server or a broken disk holds a system call for ever, and nothing can interrupt it. So the call sits in a
daemon thread of its own, and whoever asks the same question while it hangs waits for that thread: a hung mount costs
one thread, not one a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import TypeVar, cast

from exporter.world.token import Token

T = TypeVar("T")

_asked: dict[Hashable, Future[object]] = {}
_changed = threading.Condition()


def within(token: Token, question: Hashable, ask: Callable[[], T]) -> T:
    """What `ask()` returns or raises, or Aborted when the token fires first. Equal questions have the same answer."""
    token.check()
    with _changed:
        answer = _asked.get(question)
        if answer is None:
            answer = _asked[question] = Future()
            threading.Thread(target=_answer, args=(question, answer, ask), name="patience", daemon=True).start()
    forget = token.on_cancel(_wake)
    try:
        with _changed:
            _changed.wait_for(lambda: answer.done() or token.stopped is not None, token.remaining())
    finally:
        forget()
    if not answer.done():
        token.check()
    return cast(T, answer.result(timeout=0))


def _answer(question: Hashable, answer: Future[object], ask: Callable[[], object]) -> None:
    try:
        answer.set_result(ask())
    except BaseException as error:  # raised again by result(), in the thread that asked
        answer.set_exception(error)
    with _changed:
        del _asked[question]
        _changed.notify_all()


def _wake() -> None:
    with _changed:
        _changed.notify_all()
