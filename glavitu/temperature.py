"""Temperature scaling (Guo et al., 2017, section 4.2): what it is, and the one of a weight file.

Networks tend to be too sure, or not sure enough after training with the focal loss. One number,
the temperature T, mends most of that: a probability p becomes sigmoid(logit(p) / T). It changes no
map: what is above one half stays there.
"""

import sys

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from glavitu.errors import InputError
from glavitu.files import read_json
from glavitu.outputs import calibration_path
from glavitu.provenance import fingerprint

CLIP = 1e-6  # probabilities are this far from 0 and 1 at least, so that logits are within +-13.9
LIMIT = 14.0  # of the logits in a `Histogram`
BINS = 2000  # of it
TEMPERATURES = (0.05, 20.0)  # those that are tried


class Histogram:
    """Pixels by the logit of their probability: what a temperature is fitted to, in little memory.

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
        glacier = np.asarray(glacier, bool).ravel()
        if np.isnan(logits).any():
            raise InputError("a predicted probability is not a number; was the training healthy?")
        bins = ((logits + LIMIT) * (BINS / (2 * LIMIT))).astype(int)
        self.pixels += np.bincount(bins, minlength=BINS)
        self.glacier += np.bincount(bins[glacier], minlength=BINS)
        self.total += np.bincount(bins, logits, BINS)

    def fit(self):
        """Return the temperature with the least negative log likelihood."""
        if self.glacier.sum() in (0, self.pixels.sum()):
            raise InputError("calibration needs labelled pixels of both glacier and background")
        some = self.pixels > 0
        pixels, glacier = self.pixels[some], self.glacier[some]
        logits, count = self.total[some] / pixels, pixels.sum()

        def loss(log_temperature):
            scaled = logits / np.exp(log_temperature)
            missed = glacier * np.logaddexp(0, -scaled)
            return (missed + (pixels - glacier) * np.logaddexp(0, scaled)).sum() / count

        bounds = np.log(TEMPERATURES)
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        return float(np.exp(found.x))


def fit_temperature(probability, glacier):
    """Fit the temperature to labelled pixels.

    Parameters
    ----------
    probability : array_like
        Predicted probability of glacier; taken as at least `CLIP` away from 0 and 1.
    glacier : array_like of bool
        Whether the pixel is glacier.

    Returns
    -------
    float
        Within `TEMPERATURES`. Above 1 where the probabilities are too sure.

    Raises
    ------
    InputError
        If pixels of one class are missing, or a probability is NaN.

    Examples
    --------
    Of pixels said to be glacier by 90 %, 75 % are: log(9) / T must be log(3).

    >>> round(fit_temperature([0.9, 0.9, 0.9, 0.9], [True, True, True, False]), 3)
    2.0
    """
    histogram = Histogram()
    histogram.add(probability, glacier)
    return histogram.fit()


def apply_temperature(probability, temperature):
    """Return calibrated probabilities of glacier, float32; NaN stays NaN.

    As in the fit, 0 and 1 are taken as `CLIP` away from it; a temperature of 1 changes nothing.

    Examples
    --------
    >>> apply_temperature([0.1, 0.5, 0.9], 2)
    array([0.25, 0.5 , 0.75], dtype=float32)
    """
    if temperature == 1:
        return np.asarray(probability, np.float32)
    return expit(_logit(probability) / temperature).astype(np.float32)


def confidence(probability, temperature):
    """Return the calibrated probability of the class that is mapped, 0.5 to 1, float32.

    Examples
    --------
    >>> confidence([0.1, 0.5, 0.9], 2)
    array([0.75, 0.5 , 0.75], dtype=float32)
    """
    calibrated = apply_temperature(probability, temperature)
    return np.maximum(calibrated, 1 - calibrated)


def read_calibration(weights):
    """Return the temperature for a weight file, None if it has not been calibrated.

    Raises
    ------
    InputError
        If the file beside the weights is for other weights, or holds no temperature.
    """
    path = calibration_path(weights)
    if not path.exists():
        return None
    content = read_checked(path)
    if content.get("weights") != fingerprint(weights):
        raise InputError(f"{path} is for other weights than {weights}; run calibrate again")
    return float(content["temperature"])


def read_checked(path):
    """Return what a calibration file says, which must have a temperature that can be."""
    content = read_json(path)
    temperature = content.get("temperature") if isinstance(content, dict) else None
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not 0 < temperature <= sys.float_info.max:
        raise InputError(
            f"{path}: temperature is {temperature!r}, expected a positive number; run calibrate "
            "again"
        )
    return content


def _logit(probability):
    return logit(np.clip(np.asarray(probability, np.float64), CLIP, 1 - CLIP))
