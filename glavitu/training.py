"""Train a network by the recipe, leaving weights, log and a record; a killed training resumes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from glavitu.backend import keras, ops, resolve
from glavitu.bands import check_order
from glavitu.devices import on_devices
from glavitu.errors import InputError
from glavitu.files import locked, making, read_json, write_json
from glavitu.metrics import focal_loss, training_metrics
from glavitu.models import build_model, default_sizes
from glavitu.outputs import Outputs
from glavitu.patches import PatchSequence, grid_patches
from glavitu.profiles import load_profile
from glavitu.progress import say
from glavitu.provenance import by_other_code, fingerprint, provenance
from glavitu.recipe import MONITOR, Recipe
from glavitu.tiles import check_same_scaling, find_split, open_tiles

RECIPE = ["patch_size", "batch_size", "epochs", "steps", "learning_rate"]
RECIPE += ["reduce_patience", "stop_patience", "precision", "seed"]


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
        Whether to replace a result of the same name that was made with other settings, whose
        weights are not those that its training left, or whose record or log is gone.

    Returns
    -------
    pandas.DataFrame
        The log: a row per epoch.

    Raises
    ------
    InputError
        For data that does not fit, or a result of that name that would be replaced.
    """
    profile = load_profile(profile).with_changes(seed=seed)
    default_sizes(architecture)  # an unknown one is refused before anything is looked for
    paths = Outputs(out, name or architecture)
    data = Path(data or profile.data)
    files = {split: find_split(data, split) for split in ("train", "val")}
    tiles = {split: open_tiles(path) for split, path in files.items()}
    settings = _settings(architecture, profile, tiles["train"], files)
    size = profile.patch_size
    for split in tiles.values():
        split.check(settings["inputs"], size)
    _check_labelled(tiles["train"])
    _check_labelled(tiles["val"], size)
    check_same_scaling(tiles["val"], tiles["train"].scaling, settings["inputs"])
    trained_on = {source: tiles["train"].band_names[source] for source in settings["inputs"]}
    check_order(tiles["val"].path, tiles["val"].band_names, trained_on)
    with locked(paths.weights):
        conflict = paths.conflict(settings)
        if conflict and not overwrite:
            raise InputError(
                f"{conflict}; choose another name or folder, or replace it (overwrite)"
            )
        if paths.is_done() and not conflict:
            paths.checkpoint.unlink(missing_ok=True)
            say(f"{paths.name}: trained already{by_other_code(read_json(paths.record))}")
        else:
            reason = conflict or ("its weights are gone" if paths.record.exists() else None)
            if reason:
                say(f"{paths.name}: {reason}, so it is trained anew")
            _train(architecture, paths, settings, profile, tiles, replaces=reason is not None)
        return pd.read_csv(paths.log)


def _check_labelled(tiles, size=None):
    """Refuse tiles, or their patches in order of a size, without a label: the loss would be 0."""
    windows = ((name, np.s_[:, :]) for name in tiles)
    if size is not None:
        shapes = {name: tiles.shape(name) for name in tiles}
        windows = ((patch.tile, patch.window(size)) for patch in grid_patches(shapes, size))
    if not any(tiles.read(name, "groundtruth", window).any() for name, window in windows):
        raise InputError(
            f"{tiles.path} has no labelled pixel in any patch, so that there is nothing to learn "
            "from; every label (groundtruth) is zero in both classes, which means unlabelled"
        )


def _train(architecture, paths, settings, profile, tiles, *, replaces):
    """Train as the settings say, from where it was cut off, and write the record.

    What another training left, if this one replaces it, goes once nothing can refuse this one.
    """
    scaling, pixel_size = tiles["train"].scaling, tiles["train"].pixel_size

    keras.utils.set_random_seed(profile.seed)
    recipe = Recipe(paths, settings, profile)
    folders = paths.weights.parent, paths.log.parent
    with on_devices(profile.devices):
        model = build_model(
            architecture,
            inputs=settings["inputs"],
            patch_size=profile.patch_size,
            precision=resolve(profile.precision),
            **profile.sizes.get(architecture, {}),
        )
        compile_model(model)
        if replaces:
            paths.clear()
        recipe.resume(model)
        if not recipe.state.stop and len(recipe.history) < profile.epochs:
            with making(*folders):  # a place that cannot be written to shows before the work
                _fit(model, tiles, settings["inputs"], profile, recipe)
    write_json(
        paths.record,
        {
            "settings": settings,
            "profile": profile.name,
            "weights": recipe.written[-1],
            "parameters": model.count_params(),
            "precision": resolve(profile.precision),
            "epochs": len(recipe.history),
            "best_epoch": recipe.state.best + 1,  # from 1, as in what a training prints
            "best_validation_iou": recipe.history[recipe.state.best][MONITOR],
            "seconds": sum(row["seconds"] for row in recipe.history),
            "scaling": scaling,
            "bands": tiles["train"].band_names,
            "pixel_size": pixel_size,
            "provenance": provenance(),
        },
    )
    paths.checkpoint.unlink(missing_ok=True)


def _settings(architecture, profile, tiles, files):
    """Return what a training is made of; two are the same if it is, on one backend and machine."""
    settings = {
        "architecture": architecture,
        "inputs": profile.select(tiles.sources),
        "sizes": default_sizes(architecture) | profile.sizes.get(architecture, {}),
        "data": {split: fingerprint(path) for split, path in files.items()},
    } | {key: getattr(profile, key) for key in RECIPE}
    return json.loads(json.dumps(settings))  # as its record will have it


def compile_model(model):
    """Compile a network with the published optimizer, loss and metrics."""
    heads = list(model.output)
    prefix = "" if len(heads) > 1 else "output_"  # Keras names several heads, not a single one
    classes = model.output["output"].shape[-1]
    model.compile(
        keras.optimizers.Adam(),
        loss={head: focal_loss() for head in heads},
        weighted_metrics={"output": training_metrics(classes, prefix)},
        # XLA makes TensorFlow slower on processors, and later to start.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    # Variables made in its first step would have TensorFlow trace the step twice.
    model.optimizer.build(model.trainable_variables)
    nothing = {head: ops.zeros((1, *tensor.shape[1:])) for head, tensor in model.output.items()}
    model.compute_loss(y=nothing, y_pred=nothing)
    model.reset_metrics()


def _fit(model, tiles, inputs, profile, recipe):
    common = {"inputs": inputs, "size": profile.patch_size, "batch_size": profile.batch_size}
    heads = tuple(model.output)
    training = PatchSequence(
        tiles["train"],
        **common,
        heads=heads,
        random=True,
        seed=profile.seed,
        epoch=len(recipe.history),
        steps=profile.steps,
    )
    validation = PatchSequence(
        tiles["val"], **common, heads=heads, random=False, devices=profile.devices
    )
    try:
        model.fit(
            training,
            validation_data=validation,
            epochs=profile.epochs,
            initial_epoch=len(recipe.history),
            steps_per_epoch=len(training),
            callbacks=[recipe],
            shuffle=False,  # the order of batches is theirs, also after a restart
            verbose=0,
        )
    except InputError:
        for split in tiles.values():  # if the data are why, which
            split.check_values(inputs)
        raise
    finally:
        recipe.close()
        training.close()
        validation.close()
