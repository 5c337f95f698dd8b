"""Learning rate and stopping as pure functions of the log, so that a resumed one is alike."""

from typing import NamedTuple


class State(NamedTuple):
    """What the scores so far say: the best epoch, learning-rate reductions, whether to stop."""

    best: int | None
    reductions: int
    stop: bool


def warm_up(step, steps, peak):
    """Return the learning rate of a step of the first epoch: linear from 0 to `peak`."""
    return peak * min(1.0, step / steps)


def plateau(scores, *, reduce_patience, stop_patience):
    """Judge the validation scores of the epochs so far, higher being better.

    The learning rate is reduced after each `reduce_patience` epochs without a better score, and
    training stops after `stop_patience` of them (as Keras' ReduceLROnPlateau and EarlyStopping with
    ``min_delta=0``).

    Examples
    --------
    >>> plateau([0.1, 0.5, 0.4, 0.4], reduce_patience=2, stop_patience=3)
    State(best=1, reductions=1, stop=False)
    """
    best, reductions, waited = None, 0, 0
    for epoch, score in enumerate(scores):
        if best is None and score == score or best is not None and score > scores[best]:
            best, waited = epoch, 0
            continue
        waited += 1
        reductions += waited % reduce_patience == 0
    return State(best, reductions, waited >= stop_patience)
