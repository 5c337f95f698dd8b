"""Train a network by the recipe, leaving weights, log and a record; a killed training resumes."""

import json
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from glavitu.backend import keras
from glavitu.errors import InputError
from glavitu.files import read_json, replacing, write_json
from glavitu.metrics import focal_loss, training_metrics
from glavitu.models import build_model, default_sizes
from glavitu.patches import PatchSequence
from glavitu.profiles import load_profile
from glavitu.progress import progress, say
from glavitu.provenance import fingerprint, provenance
from glavitu.schedule import plateau, warm_up
from glavitu.tiles import find_split, open_tiles

MONITOR = "val_output_iou_1"
RECIPE = ["patch_size", "batch_size", "epochs", "steps", "learning_rate"]
RECIPE += ["reduce_patience", "stop_patience", "seed"]


def train(
    architecture="glavitu",
    *,
    profile="demo",
    data=None,
    out=".",
    name=None,
    seed=None,
    overwrite=False,
):
    """Train one network, or go on with a training that was cut off.

    Parameters
    ----------
    architecture : str
        One of the networks of `build_model`.
    profile : str, Path or Profile
        The recipe and the network's sizes.
    data : str or Path, optional
        Folder with the train and val files; by default the profile's.
    out : str or Path
        Folder for ``weights/NAME.weights.h5`` (best validation IoU), ``weights/NAME.json`` (what
        was trained, on what, with what) and ``logs/NAME_log.csv``.
    name : str, optional
        Name of the result, by default the architecture.
    seed : int, optional
        Instead of the profile's.
    overwrite : bool
        Whether to replace a result of the same name that was made with other settings.

    Returns
    -------
    pandas.DataFrame
        The log: a row per epoch.

    Raises
    ------
    InputError
        For data that does not fit, or a result of that name made with other settings.
    """
    profile = load_profile(profile).with_changes(seed=seed)
    paths = Outputs(out, name or architecture)
    data = Path(data or profile.data)
    files = {split: find_split(data, split) for split in ("train", "val")}
    tiles = {split: open_tiles(path) for split, path in files.items()}
    settings = _settings(architecture, profile, tiles["train"], files)
    if paths.is_finished(settings, overwrite=overwrite):
        return pd.read_csv(paths.log)
    for split in tiles.values():
        split.check(settings["inputs"], profile.patch_size)

    keras.utils.set_random_seed(profile.seed)
    model = build_model(
        architecture,
        inputs=settings["inputs"],
        patch_size=profile.patch_size,
        **profile.sizes.get(architecture, {}),
    )
    compile_model(model)
    recipe = Recipe(paths, settings, profile)
    recipe.resume(model)
    if not recipe.state.stop and len(recipe.history) < profile.epochs:
        _fit(model, tiles, settings["inputs"], profile, recipe)
    scaling = json.loads(tiles["train"].attrs.get("scaling", "null"))
    write_json(
        paths.record,
        {
            "settings": settings,
            "finished": True,
            "parameters": model.count_params(),
            "epochs": len(recipe.history),
            "best_epoch": recipe.state.best,
            "best_validation_iou": recipe.history[recipe.state.best][MONITOR],
            "seconds": sum(row["seconds"] for row in recipe.history),
            "scaling": scaling,
            "provenance": provenance(),
        },
    )
    paths.checkpoint.unlink(missing_ok=True)
    return pd.read_csv(paths.log)


def _settings(architecture, profile, tiles, files):
    """Return all that decides the result of a training; two trainings are the same if it is."""
    return {
        "architecture": architecture,
        "inputs": profile.select(tiles.sources),
        "sizes": default_sizes(architecture) | profile.sizes.get(architecture, {}),
        "profile": profile.name,
        "data": {split: fingerprint(path) for split, path in files.items()},
    } | {key: getattr(profile, key) for key in RECIPE}


def compile_model(model):
    """Compile a network with the published optimizer, loss and metrics."""
    heads = list(model.output)
    prefix = "" if len(heads) > 1 else "output_"  # Keras names several heads, not a single one
    classes = model.output["output"].shape[-1]
    model.compile(
        keras.optimizers.Adam(),
        loss={head: focal_loss() for head in heads},
        weighted_metrics={"output": training_metrics(classes, prefix)},
        # XLA on the CPU makes TensorFlow slower here, and compiling takes a minute.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def _fit(model, tiles, inputs, profile, recipe):
    common = {"inputs": inputs, "size": profile.patch_size, "batch_size": profile.batch_size}
    heads = tuple(model.output)
    training = PatchSequence(
        tiles["train"],
        **common,
        heads=heads,
        random=True,
        seed=profile.seed,
        epoch=len(recipe.history),  # Keras draws the first batch before the epoch begins
        steps=profile.steps,
    )
    validation = PatchSequence(tiles["val"], **common, heads=heads, random=False)
    recipe.training = training
    model.fit(
        training,
        validation_data=validation,
        epochs=profile.epochs,
        initial_epoch=len(recipe.history),
        callbacks=[recipe],
        shuffle=False,  # the order of batches is theirs, also after a restart
        verbose=0,
    )


class Outputs:
    """The files of one training below a folder."""

    def __init__(self, out, name):
        if not name or Path(name).name != name:
            raise InputError(f"name {name!r} must be a plain file name")
        out = Path(out)
        self.name = name
        self.weights = out / "weights" / f"{name}.weights.h5"
        self.record = out / "weights" / f"{name}.json"
        self.checkpoint = out / "weights" / f"{name}.checkpoint.h5"
        self.log = out / "logs" / f"{name}_log.csv"

    def is_finished(self, settings, *, overwrite):
        """Tell whether this very training is done; clear or refuse the traces of another."""
        if self.record.exists() and self.weights.exists():
            found = read_json(self.record)["settings"]
        elif self.checkpoint.exists():
            with h5py.File(self.checkpoint, "r") as file:
                found = json.loads(file["settings"].asstr()[()])
        else:
            return False
        differs = [key for key in settings if found.get(key) != settings[key]]
        if not differs:
            return self.record.exists()
        if not overwrite:
            key = differs[0]
            raise InputError(
                f"{self.weights.parent} has another training named {self.name!r} ({key} "
                f"{found.get(key)}, now {settings[key]}); choose another name or overwrite it"
            )
        for path in (self.record, self.checkpoint, self.weights, self.log):
            path.unlink(missing_ok=True)
        return False


class Recipe(keras.callbacks.Callback):
    """Warm-up, plateau, stopping, log, best weights and checkpoint of a training.

    The learning rate and the decision to stop follow from the log alone; the checkpoint holds the
    log and every variable, in one file replaced at once. So a training killed at any moment goes on
    from its last whole epoch as if nothing had happened.
    """

    def __init__(self, paths, settings, profile):
        super().__init__()
        self.paths, self.settings, self.profile = paths, settings, profile
        self.history = []

    @property
    def state(self):
        """What the scores so far say."""
        return plateau(
            [row[MONITOR] for row in self.history],
            reduce_patience=self.profile.reduce_patience,
            stop_patience=self.profile.stop_patience,
        )

    def resume(self, model):
        """Set the model and the log to the last whole epoch of a training that was cut off."""
        model.optimizer.build(model.trainable_variables)
        if not self.paths.checkpoint.exists():
            return
        with h5py.File(self.paths.checkpoint, "r") as file:
            self.history = json.loads(file["history"].asstr()[()])
            for i, variable in enumerate(_variables(model)):
                variable.assign(file[f"variable_{i}"][()])
        self._write_log()

    def on_train_begin(self, logs=None):
        """Show a bar of epochs."""
        self.bar = progress(
            description=self.paths.name,
            total=self.profile.epochs * self.params["steps"],
            initial=len(self.history) * self.params["steps"],
            unit="batch",
        )

    def on_epoch_begin(self, epoch, logs=None):
        """Set the learning rate and the patches of the epoch."""
        self.training.epoch = epoch
        self.started = time.perf_counter()
        self._set_rate(self.profile.learning_rate * 0.1**self.state.reductions)

    def on_train_batch_begin(self, batch, logs=None):
        """Set the learning rate of a step of the first epoch."""
        if not self.history:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self._set_rate(warm_up(batch, self.params["steps"], self.profile.learning_rate))

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar on."""
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Judge the epoch, then write weights, checkpoint and log, in this order."""
        row = {"epoch": epoch} | {key: float(value) for key, value in sorted(logs.items())}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        if not np.isfinite(row["loss"]):
            raise InputError(
                f"{self.paths.name}: the loss is {row['loss']} in epoch {epoch + 1}; lower the "
                f"learning rate ({row['learning_rate']:g}) or look for extreme values in the data"
            )
        self.history.append(row)
        if self.state.best == epoch:
            inference = keras.Model(self.model.input, self.model.output, name=self.model.name)
            with replacing(self.paths.weights) as part:
                inference.save_weights(part)
        self._write_checkpoint()
        self._write_log()
        say(self._describe(row))
        self.model.stop_training = self.state.stop

    def on_train_end(self, logs=None):
        """Close the bar."""
        self.bar.close()

    def _describe(self, row):
        best = " *" if self.state.best == row["epoch"] else ""
        return (
            f"{self.paths.name} epoch {row['epoch'] + 1}/{self.profile.epochs}  "
            f"loss {row['loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"val IoU {row[MONITOR]:.3f}{best}  {row['seconds']:.0f} s"
        )

    def _set_rate(self, rate):
        self.model.optimizer.learning_rate = rate

    def _write_checkpoint(self):
        with replacing(self.paths.checkpoint) as part, h5py.File(part, "w") as file:
            file["settings"] = json.dumps(self.settings)
            file["history"] = json.dumps(self.history)
            for i, variable in enumerate(_variables(self.model)):
                file[f"variable_{i}"] = keras.ops.convert_to_numpy(variable)

    def _write_log(self):
        with replacing(self.paths.log) as part:
            pd.DataFrame(self.history).to_csv(part, index=False)


def _variables(model):
    return [*model.variables, *model.optimizer.variables]
