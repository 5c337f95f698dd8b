"""The published recipe as a Keras callback; a training killed at any moment can go on."""

import json
import time

import numpy as np
import pandas as pd

from glavitu.backend import keras
from glavitu.errors import InputError
from glavitu.files import replacing
from glavitu.hdf5_writing import creating
from glavitu.progress import progress, say
from glavitu.provenance import fingerprint
from glavitu.schedule import plateau, warm_up
from glavitu.weights import save_weights, saving_weights

MONITOR = "val_output_iou_1"


class Recipe(keras.callbacks.Callback):
    """Warm-up, plateau, stopping, log, best weights and checkpoint of a training.

    The learning rate and the decision to stop follow from the log alone; the checkpoint holds the
    log, every variable and the fingerprints of the weights written so far, in one file replaced at
    once. So a training killed at any moment goes on from its last whole epoch as if nothing had
    happened.
    """

    def __init__(self, paths, settings, profile):
        super().__init__()
        self.paths, self.settings, self.profile = paths, settings, profile
        self.history, self.written, self.bar = [], [], None

    @property
    def state(self):
        """What the scores so far say."""
        return plateau(
            [row[MONITOR] for row in self.history],
            reduce_patience=self.profile.reduce_patience,
            stop_patience=self.profile.stop_patience,
        )

    def resume(self, model):
        """Set log and best weights to the last whole epoch of a training that was cut off."""
        if not self.paths.checkpoint.exists():
            return
        with self.paths.reading_checkpoint() as file:
            self.history, self.written = (
                json.loads(file[key].asstr()[()]) for key in ("history", "weights")
            )
            if not self.history:
                return
            best = self.state.best
        if not self._has_best():
            if best + 1 < len(self.history):
                say(f"{self.paths.name}: its best weights are gone, so it begins anew")
                self.paths.clear()
                self.history, self.written = [], []
                return
            self._restore(model.variables)  # killed before they were in place
            save_weights(model, self.paths.weights)
        self._write_log()

    def _has_best(self):
        weights = self.paths.weights
        return weights.exists() and fingerprint(weights) == self.written[-1]

    def on_train_begin(self, logs=None):
        """Set every variable as the last whole epoch left it, and show a bar of epochs.

        A checkpoint without epochs shows before the work whether there can be one.
        """
        if self.history:
            say(f"{self.paths.name}: goes on after epoch {len(self.history)}")
            # not before: Keras moves the seeds of dropout when it builds a model for training
            self._restore(_variables(self.model))
        else:
            self._write_checkpoint([])
        self.bar = progress(
            description=self.paths.name,
            total=self.profile.epochs * self.params["steps"],
            initial=len(self.history) * self.params["steps"],
            unit="batch",
        )

    def on_epoch_begin(self, epoch, logs=None):
        """Set the learning rate of the epoch."""
        self.started = time.perf_counter()
        self._set_rate(self.profile.learning_rate * 0.1**self.state.reductions)

    def on_train_batch_begin(self, batch, logs=None):
        """Move the bar on, and set the learning rate of a step of the first epoch.

        There is no `on_train_batch_end`: with one, Keras would wait for each step's scores before
        it starts the next step, and a GPU would have nothing to do meanwhile.
        """
        self._move_bar(batch)
        if not self.history:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self._set_rate(warm_up(batch, self.params["steps"], self.profile.learning_rate))

    def on_epoch_end(self, epoch, logs=None):
        """Judge the epoch, then write checkpoint, weights and log, in this order."""
        row = {"epoch": epoch} | {key: float(value) for key, value in sorted(logs.items())}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        if lost := [key for key in ("loss", "val_loss") if not np.isfinite(row[key])]:
            raise InputError(
                f"{self.paths.name}: {lost[0]} is {row[lost[0]]} in epoch {epoch + 1}; lower the "
                f"learning rate ({row['learning_rate']:g}) or look for extreme values in the data"
            )
        self.history.append(row)
        self._move_bar(0)
        if self.state.best == epoch:
            with saving_weights(self.model, self.paths.weights) as part:
                self.written.append(fingerprint(part))
                self._write_checkpoint(_variables(self.model))
        else:
            self._write_checkpoint(_variables(self.model))
        self._write_log()
        say(self._describe(row))
        self.model.stop_training = self.state.stop

    def close(self):
        """Close the bar, also of a training that failed; one without an epoch leaves nothing."""
        if self.bar is not None:
            self.bar.close()
        if not self.history:
            self.paths.checkpoint.unlink(missing_ok=True)

    def _move_bar(self, batch):
        """Let the bar stand at a batch of the epoch that follows the log."""
        self.bar.update(len(self.history) * self.params["steps"] + batch - self.bar.n)

    def _describe(self, row):
        best = ", the best so far" if self.state.best == row["epoch"] else ""
        return (
            f"{self.paths.name} epoch {row['epoch'] + 1}/{self.profile.epochs}  "
            f"loss {row['loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"val IoU {row[MONITOR]:.3f}  {row['seconds']:.0f} s{best}"
        )

    def _set_rate(self, rate):
        self.model.optimizer.learning_rate = rate

    def _write_checkpoint(self, variables):
        with creating(self.paths.checkpoint) as file:
            file["settings"] = json.dumps(self.settings)
            file["history"] = json.dumps(self.history)
            file["weights"] = json.dumps(self.written)
            for i, variable in enumerate(variables):
                file[f"variable_{i}"] = keras.ops.convert_to_numpy(variable)

    def _restore(self, variables):
        with self.paths.reading_checkpoint() as file:
            for i, variable in enumerate(variables):
                variable.assign(file[f"variable_{i}"][()])

    def _write_log(self):
        with replacing(self.paths.log) as part:
            pd.DataFrame(self.history).to_csv(part, index=False)


def _variables(model):
    return [*model.variables, *model.optimizer.variables]
