"""Multi-regional glacier mapping with GlaViTU: networks, data path and evaluation of the study."""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "InputError": "errors",
    "build_model": "models",
    "load_model": "weights",
    "load_weights": "weights",
    "save_weights": "weights",
    "open_tiles": "tiles",
    "compile_tiles": "scenes",
    "make_demo_data": "demo_data",
    "load_profile": "profiles",
    "train": "training",
    "predict": "prediction",
    "predict_tile": "prediction",
    "evaluate": "evaluation",
    "calibrate": "calibration",
    "map_scene": "mapping",
    "map_scenes": "many_scenes",
    "score": "evaluation",
    "pool": "evaluation",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    """Import a public name from its module when it is first used, so that importing stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glavitu' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"glavitu.{_HOMES[name]}"), name)
    return value


def __dir__():
    return __all__
