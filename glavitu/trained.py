"""A training's weight file, or another one, and the network it is for."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from glavitu.backend import resolve
from glavitu.bands import check_order, recorded_names
from glavitu.errors import InputError
from glavitu.models import build_model
from glavitu.outputs import read_built, read_record, record_path
from glavitu.progress import say
from glavitu.provenance import fingerprint
from glavitu.tiles import check_same_scaling
from glavitu.units import check_scaling
from glavitu.weights import load_model, load_weights


@dataclass(frozen=True)
class Trained:
    """A weight file and the network it is for, which is built when it is needed."""

    weights: Path
    fingerprint: str
    architecture: str
    inputs: dict
    patch_size: int
    precision: str
    sizes: dict | None = None
    """As in the profile; None where the file says itself what it is for."""

    def load_for(self, tiles, *, labelled=True):
        """Return the network with its weights; refuse tiles that do not fit it."""
        model = self._network()
        tiles.check(self.inputs, self.patch_size, labelled=labelled)
        if self.sizes is None:
            _check_like_training(self.weights, tiles, self.inputs)
        return model

    def _network(self):
        if self.sizes is None:
            return _load(self.weights, self.fingerprint, self.precision)
        model = build_model(
            self.architecture,
            inputs=self.inputs,
            patch_size=self.patch_size,
            precision=self.precision,
            **self.sizes,
        )
        load_weights(model, self.weights)
        return model


def find_trained(architecture, profile, tiles, paths, weights=None):
    """Return the training called as `paths` are, or that of a weight file.

    Of a file that does not say what it is for, the profile and the tiles do.
    """
    source, precision = Path(weights or paths.weights), resolve(profile.precision)
    built = read_built(source)
    # First: if the file is replaced meanwhile, results bear the old fingerprint and are made again.
    used = fingerprint(source)
    if weights is None and paths.checkpoint.exists():
        if paths.are_foreign():
            raise InputError(f"{source} is not what its training left there; run train again")
        say(f"{paths.name}: not trained to the end; the best weights so far are used")
    if built is None:
        architecture = architecture or "glavitu"
        inputs, sizes = profile.select(tiles.sources), profile.sizes.get(architecture, {})
        return Trained(source, used, architecture, inputs, profile.patch_size, precision, sizes)
    if architecture not in (None, built["architecture"]):
        raise InputError(
            f"{source} does not fit {architecture}: it holds {built['architecture']}; name that, "
            "or another training or weight file"
        )
    kept = {key: built[key] for key in ("architecture", "inputs", "patch_size")}
    return Trained(source, used, **kept, precision=precision)


@lru_cache(maxsize=1)
def _load(source, used, precision):
    """Load a network once for predict and calibrate; the last one stays in memory."""
    return load_model(source, precision=precision)


def _check_like_training(weights, tiles, inputs):
    """Refuse tiles that are scaled otherwise than those a weight file was trained on.

    Or whose bands have the same names in another order.
    """
    record = record_path(weights)
    if record.exists():
        content = read_record(weights, "scaling")
        scaling = content["scaling"] or {}
        check_scaling(f"{record}: scaling", scaling, inputs)
        check_same_scaling(tiles, scaling, inputs)
        check_order(tiles.path, tiles.band_names, recorded_names(content, inputs, record))
