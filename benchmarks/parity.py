"""Largest difference between our networks' answers and the published networks', by backend.

    GLAVITU_REFERENCE=DIR python -m benchmarks parity

DIR holds `manifest.json`, weight files in the published format and the published networks' answers
to seeded random patches. Each installed Keras backend runs in a process of its own. Writes
`runs/benchmarks/parity.json` and `parity.md`.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks import folder_from, in_process, write_table

# What the builders in the manifest say in words, as overrides of the published sizes.
SIZES = {
    "resunet_f16": {"fusion_filters": 16, "filters": 16},
    "setr_e192": {"embed_dim": 192, "mlp_dim": 768, "decoder_filters": 64},
}
BACKENDS = ("tensorflow", "jax", "torch")


def installed_backends():
    """Return the Keras backends that can be imported here."""
    return [backend for backend in BACKENDS if find_spec(backend)]


def differences(reference):
    """Return {case: {head: largest absolute difference}} under this process's backend."""
    from glavitu import build_model, load_weights

    reference = Path(reference)
    found = {}
    for case, entry in json.loads((reference / "manifest.json").read_text()).items():
        size, inputs = entry["patch_size"], entry["inputs"]
        sizes = SIZES.get(case, {})
        model = build_model(case.split("_")[0], inputs=inputs, patch_size=size, **sizes)
        if model.count_params() != entry["params"]:
            raise ValueError(f"{case}: {model.count_params()} parameters, not {entry['params']}")
        load_weights(model, reference / entry["weights"])
        rng = np.random.default_rng(entry["seed"])
        batch = {s: rng.random((1, size, size, n), dtype=np.float32) for s, n in inputs.items()}
        answer = model.predict_on_batch(batch)
        expected = np.load(reference / entry["expected"])
        found[case] = {h: float(np.abs(answer[h] - expected[h]).max()) for h in entry["outputs"]}
    return found


def differences_under(backend, reference):
    """Return `differences` as computed by a process with another backend."""
    return in_process(differences, str(reference), KERAS_BACKEND=backend)


@click.command()
def main():
    reference = folder_from("GLAVITU_REFERENCE")
    if not (reference / "manifest.json").is_file():
        raise click.UsageError(f"{reference} has no manifest.json of published answers")
    found = {backend: differences_under(backend, reference) for backend in installed_backends()}
    rows = [
        {"network": case, "head": head} | {b: f"{found[b][case][head]:.1e}" for b in found}
        for case, heads in next(iter(found.values())).items()
        for head in heads
    ]
    write_table("parity", pd.DataFrame(rows), found)
