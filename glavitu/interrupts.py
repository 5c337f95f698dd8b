"""Ctrl-C that no library can swallow."""

import signal
import sys
import threading
from contextlib import contextmanager

SIGNALS = signal.SIGINT, signal.SIGALRM
AGAIN = 1.0  # seconds after which an interrupt that had no effect is raised once more


@contextmanager
def held():
    """Hold interrupts back until the block has ended: one may crash TensorFlow while imported.

    To block the signals would not do: a thread of another library, such as NumPy's, takes them.
    """
    if threading.current_thread() is not threading.main_thread():  # which handles all of them
        yield
        return
    caught = {}
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in handlers.items() if handler is not None]  # not of C
    for number in ours:
        signal.signal(number, lambda number, frame: caught.setdefault(number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, handlers[number])
        for number in caught:
            signal.raise_signal(number)


@contextmanager
def insistent():
    """Have interrupts raise `KeyboardInterrupt` until one leaves the block; yield them as a list.

    Some libraries drop it, or make another exception of it, while they are imported. Where
    interrupts are ignored, as below nohup, they stay so.
    """
    interrupts = []

    def interrupt(number, frame):
        interrupts.append(number)
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        if number == signal.SIGINT or sys.exception() is None:  # else one is on its way
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield interrupts
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
