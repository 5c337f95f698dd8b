"""Platt scaling (Platt, 1999; Guo et al., 2017, section 4.1), and that of a weight file.

Networks tend to be too sure or, after training with the focal loss, not sure enough, and where they
are in doubt one class may be the more frequent. Two numbers mend most of that: a probability p
becomes sigmoid(slope * logit(p) + shift). Maps stay as they are: glacier is where p itself is above
one half.
"""

import sys
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from glavitu.errors import InputError
from glavitu.files import read_json
from glavitu.outputs import calibration_path
from glavitu.provenance import fingerprint

CLIP = 1e-6  # probabilities are this far from 0 and 1 at least, so that logits are within +-13.9
LIMIT = 14.0  # of the logits in a `Histogram`
BINS = 2000  # of it
SLOPES = (0.05, 20.0)  # those that are tried
FARTHEST = SLOPES[1] * LIMIT  # shift that is tried


class Calibration(NamedTuple):
    """What brings a network's probabilities closer to shares of pixels."""

    slope: float
    """Above 0; below 1 for a network that is too sure."""
    shift: float
    """Below 0 for a network that sees too much glacier where it is in doubt."""


class Histogram:
    """Pixels by the logit of their probability: what a calibration is fitted to, in little memory.

    Attributes
    ----------
    pixels, glacier : numpy.ndarray
        Pixels, and pixels that are glacier, in each of `BINS` bins between -`LIMIT` and `LIMIT`.
    total : numpy.ndarray
        Sum of their logits.
    """

    def __init__(self):
        self.pixels = np.zeros(BINS, np.int64)
        self.glacier = np.zeros(BINS, np.int64)
        self.total = np.zeros(BINS)

    def add(self, probability, glacier):
        """Count labelled pixels: their probability of glacier, and whether they are glacier."""
        logits = _logit(probability).ravel()
        glacier = np.asarray(glacier).ravel()
        if np.isnan(logits).any():
            raise InputError("a predicted probability is not a number; was the training healthy?")
        if len(glacier) != len(logits) or not np.isin(glacier, (0, 1)).all():
            raise InputError("expected for each probability whether it is of glacier, 1, or not, 0")
        bins = ((logits + LIMIT) * (BINS / (2 * LIMIT))).astype(int)
        self.pixels += np.bincount(bins, minlength=BINS)
        self.glacier += np.bincount(bins[glacier.astype(bool)], minlength=BINS)
        self.total += np.bincount(bins, logits, BINS)

    def fit(self):
        """Return the `Calibration` with the least negative log likelihood."""
        if self.glacier.sum() in (0, self.pixels.sum()):
            raise InputError("calibration needs labelled pixels of both glacier and background")
        some = self.pixels > 0
        pixels, glacier = self.pixels[some], self.glacier[some]
        logits, count = self.total[some] / pixels, pixels.sum()

        def loss(parameters):
            slope, shift = parameters
            odds = slope * logits + shift
            missed = glacier * np.logaddexp(0, -odds) + (pixels - glacier) * np.logaddexp(0, odds)
            too_much = pixels * expit(odds) - glacier
            return missed.sum() / count, np.array([too_much @ logits, too_much.sum()]) / count

        exactly = {"ftol": 1e-15, "gtol": 1e-10}
        bounds = SLOPES, (-FARTHEST, FARTHEST)
        found = minimize(loss, (1, 0), jac=True, bounds=bounds, options=exactly)
        return Calibration(*map(float, found.x))


def fit_calibration(probability, glacier):
    """Fit slope and shift to labelled pixels.

    Parameters
    ----------
    probability : array_like
        Predicted probability of glacier; taken as at least `CLIP` away from 0 and 1.
    glacier : array_like
        Whether the pixel is glacier: 1 or True, 0 or False.

    Returns
    -------
    Calibration
        Its slope is within `SLOPES`.

    Raises
    ------
    InputError
        If pixels of one class are missing, or a probability is NaN.

    Examples
    --------
    Of pixels said to be glacier by 90 %, 75 % are, and of those by 10 %, half are: slope log(9) +
    shift must be log(3), and shift - slope log(9) be 0.

    >>> tall, low = [0.9] * 4, [0.1] * 2
    >>> slope, shift = fit_calibration(tall + low, [1, 1, 1, 0, 1, 0])
    >>> print(f"{slope:.3f} {shift:.3f}")
    0.250 0.549
    """
    histogram = Histogram()
    histogram.add(probability, glacier)
    return histogram.fit()


def calibrated(probability, calibration):
    """Return calibrated probabilities of glacier, float32; NaN stays NaN.

    As in the fit, 0 and 1 are taken as `CLIP` away from it; without a calibration, None, they are
    returned as they are.

    Examples
    --------
    >>> calibrated([0.1, 0.5, 0.9], Calibration(slope=0.5, shift=0))
    array([0.25, 0.5 , 0.75], dtype=float32)
    """
    if calibration is None:
        return np.asarray(probability, np.float32)
    slope, shift = calibration
    return expit(slope * _logit(probability) + shift).astype(np.float32)


def confidence(probability, calibration):
    """Return the calibrated probability of the class that is mapped, float32.

    It is below 0.5 where a network, for all it maps, is more often wrong than right.

    Examples
    --------
    >>> confidence([0.1, 0.5, 0.9], Calibration(slope=0.5, shift=0))
    array([0.75, 0.5 , 0.75], dtype=float32)
    """
    found = calibrated(probability, calibration)
    return np.where(np.asarray(probability) > 0.5, found, 1 - found)


def tells_little(slope):
    """Tell whether a slope is the least that is tried, as for a network that is mostly wrong."""
    return slope < 1.01 * min(SLOPES)


def read_calibration(weights):
    """Return the `Calibration` for a weight file, None if it has none.

    Raises
    ------
    InputError
        If the file beside the weights is for other weights, or holds no calibration.
    """
    path = calibration_path(weights)
    if not path.exists():
        return None
    content = read_checked(path)
    if content.get("weights") != fingerprint(weights):
        raise InputError(f"{path} is for other weights than {weights}; run calibrate again")
    return Calibration(float(content["slope"]), float(content["shift"]))


def read_checked(path):
    """Return what a calibration file says, which must have a slope and a shift that can be."""
    content = read_json(path)
    for name, least in (("slope", 0), ("shift", -sys.float_info.max)):
        number = content.get(name) if isinstance(content, dict) else None
        known = isinstance(number, int | float) and not isinstance(number, bool)
        if not known or not least < number <= sys.float_info.max:
            kind = "a positive number" if name == "slope" else "a number"
            raise InputError(f"{path}: {name} is {number!r}, expected {kind}; run calibrate again")
    return content


def _logit(probability):
    return logit(np.clip(np.asarray(probability, np.float64), CLIP, 1 - CLIP))
