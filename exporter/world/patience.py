"""How long do we wait for a system call that may never return? Until the token's deadline, and never with two threads.

A dead NFS server or a broken disk holds a system call for ever, and nothing can interrupt it. So the call sits in a
daemon thread of its own, and whoever asks the same question while it hangs waits for that thread: a hung mount costs
one thread, not one a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar, cast

from exporter.world.token import Token

T = TypeVar("T")


@dataclass(slots=True)
class _Question:
    done: bool = False
    answer: object = None
    error: BaseException | None = None


_asked: dict[Hashable, _Question] = {}
_changed = threading.Condition()


def within(token: Token, key: Hashable, ask: Callable[[], T]) -> T:
    """What `ask()` returns or raises, or Aborted when the token fires first. Equal keys must mean equal questions."""
    token.check()
    with _changed:
        question = _asked.get(key)
        if question is None:
            question = _asked[key] = _Question()
            threading.Thread(target=_answer, args=(key, question, ask), name="patience", daemon=True).start()
    forget = token.on_cancel(_wake)
    try:
        with _changed:
            _changed.wait_for(lambda: question.done or token.stopped is not None, token.remaining())
    finally:
        forget()
    if not question.done:
        token.check()
    if question.error is not None:
        raise question.error
    return cast(T, question.answer)


def _answer(key: Hashable, question: _Question, ask: Callable[[], object]) -> None:
    try:
        question.answer = ask()
    except BaseException as error:  # raised again in the thread that asked
        question.error = error
    with _changed:
        del _asked[key]  # in the same breath as `done`: whoever asks from now on wants a fresh answer
        question.done = True
        _changed.notify_all()


def _wake() -> None:
    with _changed:
        _changed.notify_all()
