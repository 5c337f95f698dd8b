"""Where the files of a training lie, whether it is done, and what its weights are for."""

import json
from contextlib import contextmanager
from pathlib import Path

from glavitu.differences import changes
from glavitu.errors import InputError
from glavitu.files import read_json
from glavitu.hdf5 import open_file, plain, reading
from glavitu.provenance import fingerprint

LONGEST = 200  # bytes of a name; file systems take 255, of which endings need some


def check_name(name):
    """Refuse the name of a result that would lie elsewhere than its folder."""
    alone = name and Path(name).name == name and name[0] != "." and name.isprintable()
    if not alone or len(name.encode()) > LONGEST:
        raise InputError(f"name {name!r} must be a plain file name of at most {LONGEST} letters")


def calibration_path(weights):
    """Return where the calibration of a weight file lies: beside it.

    Examples
    --------
    >>> calibration_path("glavitu.weights.h5").name
    'glavitu.calibration.json'
    """
    weights = Path(weights)
    stem = weights.name.removesuffix(".h5").removesuffix(".weights")
    return weights.with_name(f"{stem}.calibration.json")


def record_path(weights):
    """Return where the record of a training lies: beside its weight file."""
    return weights.with_name(weights.name.removesuffix(".weights.h5") + ".json")


def read_record(weights, *keys):
    """Return the record beside a weight file, with the keys; refuse one of other weights."""
    record = record_path(weights)
    content = read_json(record, *keys)
    if content.get("weights") != fingerprint(weights):
        raise InputError(
            f"{record} was not written with {weights.name} as it is now; take both files of one "
            "training, or train again"
        )
    return content


class Outputs:
    """The files of one training below a folder."""

    def __init__(self, out, name):
        check_name(name)
        out = Path(out)
        self.name = name
        self.weights = out / "weights" / f"{name}.weights.h5"
        self.record = record_path(self.weights)
        self.checkpoint = out / "weights" / f"{name}.checkpoint.h5"
        self.calibration = calibration_path(self.weights)
        self.log = out / "logs" / f"{name}_log.csv"

    def conflict(self, settings):
        """Return in words why a training by the settings would replace what is there.

        None where that is the same training, done or cut off, or where there is none.
        """
        found, _ = self._read_training()
        if found is None:
            alone = f"{self.weights} has no record of a training, {self.record.name}, beside it"
            return alone if self.weights.exists() else None
        found = {key: found.get(key) for key in settings}
        if differs := changes(found, settings, {"data": "other data"}):
            return f"another training named {self.name!r} is in {self.weights.parent} ({differs})"
        if self.are_foreign():
            return f"{self.weights} is not what its training left there"
        if self.is_done() and not self.log.exists():
            return f"{self.log}, the log of this training, is gone"
        return None

    def are_foreign(self):
        """Tell whether the weight file is another one than the training wrote."""
        return self.weights.exists() and fingerprint(self.weights) not in self._read_training()[1]

    def is_done(self):
        """Tell whether a training has come to its end, and its weights are there."""
        return self.record.exists() and self.weights.exists()

    def _read_training(self):
        """Return the settings of the training that is there, and fingerprints of its weights.

        None and none where there is no training, or only one that was cut off in its first epoch.
        """
        if self.record.exists():
            record = read_json(self.record, "settings")
            if not isinstance(record["settings"], dict):
                raise InputError(f"{self.record} holds no settings of a training; remove it")
            return record["settings"], [record.get("weights")]
        if self.checkpoint.exists():
            with self.reading_checkpoint() as file:
                if written := list(json.loads(file["weights"].asstr()[()])):
                    return dict(json.loads(file["settings"].asstr()[()])), written
        return None, []

    @contextmanager
    def reading_checkpoint(self):
        """Open the checkpoint; say in one line what is wrong with it."""
        with (
            open_file(self.checkpoint, hint="; remove it to begin anew") as file,
            reading(f"{self.checkpoint}, remove it to begin anew:"),
        ):
            yield file

    def clear(self):
        """Remove what a training left."""
        for path in (self.record, self.checkpoint, self.weights, self.calibration, self.log):
            path.unlink(missing_ok=True)


def open_weights(path):
    """Open a weight file; raise `InputError` where it is missing or no HDF5."""
    try:
        return open_file(path, "weight file")
    except FileNotFoundError:
        raise InputError(f"no weights at {path}; train first, or name another file") from None


def read_built(path):
    """Return what a weight file of ours was built with, None where it does not say.

    Raises `InputError` where it is missing or no HDF5, or says what cannot be.
    """
    with open_weights(path) as file, reading(path):
        text = plain(file.attrs).get("glavitu")
    if text is None:
        return None
    where = f"{path}: what it is for"
    with reading(where):
        built = json.loads(text)
    kinds = {"architecture": str, "inputs": dict, "patch_size": int, "sizes": dict}
    if not isinstance(built, dict) or set(built) != set(kinds):
        raise InputError(f"{where} is {text!r}, expected {', '.join(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(built[key], kind):
            raise InputError(f"{where}: {key} is {built[key]!r}, expected a {kind.__name__}")
    return built
