"""Profiles: named sets of parameters, one YAML file each in `profiles/`."""

from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

from glavitu.errors import InputError
from glavitu.yaml_files import read_yaml

ARCHITECTURES = ("setr", "resunet", "transunet", "glavitu")
SCENE_OPTIONS = {  # of a profile's scene, beside its rasters -> what they are
    "reference": str,
    "grid": str,
    "nodata": dict,
    "factors": dict,
    "own_scaling": bool,
    "date": (str, int, date),
    "picture": dict,
    "min_area": (int, float),
    "smooth": (int, float),
}
BASELINES = ("deeplabv3plus", "segformer")
PRECISIONS = ("auto", "float32", "bfloat16")
# The whole numbers of a profile -> least and most.
RANGES = {
    "patch_size": (1, 8192),
    "batch_size": (1, 4096),
    "epochs": (1, 1_000_000),
    "steps": (0, 1_000_000),
    "reduce_patience": (1, 1_000_000),
    "stop_patience": (1, 1_000_000),
    "repeats": (1, 1000),
    "devices": (1, 1024),
    "seed": (0, 2**32 - 1),
}
DEMO_DATA = ("tile_size", "tiles_per_region", "regions", "seed", "outline_error")
UNFINISHED = ".demo_data.unfinished"  # in a folder while demo data are made there
_FOLDERS = (Path(__file__).parents[1] / "profiles", Path(__file__).parent / "_profiles")


def check_precision(precision):
    """Return what networks compute in; refuse what is none of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, expected {' or '.join(PRECISIONS)}")
    return precision


class Run(NamedTuple):
    """One training of a study, and what its files are called."""

    name: str
    architecture: str
    sources: list
    """The sources to use; empty means the profile's."""
    seed: int

    @property
    def method(self):
        """What is compared: the architecture, and its sources if they are a choice of them."""
        return " ".join([self.architecture, *self.sources])


@dataclass(frozen=True)
class Profile:
    """The parameters of a study; the defaults are the published recipe.

    Attributes
    ----------
    name : str
        Name of the profile.
    data : str or Path
        Default folder of the tile files.
    demo_data : dict
        Arguments of `make_demo_data` where the data can be made; empty where they must be
        downloaded.
    architectures : list of str
        The networks to compare.
    repeats : int
        Trainings of each network, with the seeds ``seed``, ``seed + 1``, ….
    ablation : dict of str to list
        Architecture -> lists of sources to train it on as well.
    sizes : dict of str to dict
        Architecture -> overrides of its published sizes.
    sources : list of str
        The sources to use, in order; empty means all in the training file.
    patch_size, batch_size : int
        Height and width of a patch, in pixels; patches in a batch.
    epochs : int
        Most epochs.
    steps : int
        Batches in an epoch; 0 means the published rule, 2 floor(N / batch_size).
    learning_rate : float
        Of Adam, after the first epoch's warm-up.
    reduce_patience, stop_patience : int
        Epochs without a better validation IoU before the learning rate drops, before it stops.
    scene : dict
        Source -> raster of the scene to map, from the YAML file's folder, and if wanted
        ``reference``, ``grid``, ``nodata``, ``factors``, ``own_scaling``, ``date``, ``picture``,
        ``min_area`` and ``smooth`` as of `map_scene`; empty means a demo scene, for studies of demo
        data.
    stride : int
        Step between prediction windows, in pixels; 0 means half a patch, as published.
    precision : str
        What networks compute in: ``float32``, ``bfloat16``, or ``auto``, bfloat16 where the
        processor or GPU has the units.
    devices : int
        GPUs, or processors, that share each batch in training.
    seed : int
        Of weights, sampling, augmentation and dropout.
    """

    name: str
    data: str
    demo_data: dict = field(default_factory=dict)
    architectures: list = field(default_factory=lambda: list(ARCHITECTURES))
    repeats: int = 1
    ablation: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    sources: list = field(default_factory=list)
    patch_size: int = 384
    batch_size: int = 8
    epochs: int = 1000
    steps: int = 0
    learning_rate: float = 5e-4
    reduce_patience: int = 10
    stop_patience: int = 31
    scene: dict = field(default_factory=dict)
    stride: int = 0
    precision: str = "auto"
    devices: int = 1
    seed: int = 0

    def __post_init__(self):
        for name in (*RANGES, "stride"):  # of NumPy's kinds, too
            value = getattr(self, name)
            if isinstance(value, Integral) and not isinstance(value, bool):
                object.__setattr__(self, name, int(value))
        if isinstance(self.data, Path):
            object.__setattr__(self, "data", str(self.data))
        for name, (least, most) in RANGES.items():
            fits = range(least, most + 1).__contains__
            self._check(
                name, getattr(self, name), fits, int, f"a whole number from {least} to {most}"
            )
        fits = f"a multiple of the {self.devices} devices"
        self._check("batch_size", self.batch_size, lambda v: v % self.devices == 0, int, fits)
        rate = self.learning_rate
        self._check("learning_rate", rate, lambda v: 0 < v < 1, (int, float), "between 0 and 1")
        fits = f"a whole number from 0 to the patch_size of {self.patch_size}"
        self._check("stride", self.stride, lambda v: 0 <= v <= self.patch_size, int, fits)
        known = " or ".join(PRECISIONS)
        self._check("precision", self.precision, lambda v: v in PRECISIONS, str, known)

        self._check("data", self.data, lambda v: True, str, "a folder")
        for name in ("demo_data", "sizes", "ablation"):
            self._check(name, getattr(self, name), lambda v: True, dict, "a dict")
        fits = f"rasters by source, and {', '.join(SCENE_OPTIONS)} as of map_scene"
        self._check("scene", self.scene, _fits_scene, dict, fits)
        names = "a list of names, each once"
        for name in ("architectures", "sources"):
            self._check(name, getattr(self, name), are_names, list, names)
        self._check("architectures", self.architectures, bool, list, "one or more")
        if unknown := [key for key in self.demo_data if key not in DEMO_DATA]:
            raise InputError(
                f"profile {self.name}: unknown {unknown[0]!r} in demo_data; known: "
                f"{', '.join(DEMO_DATA)}"
            )
        for key in ("architectures", "sizes", "ablation"):
            for name in getattr(self, key):
                if name not in ARCHITECTURES + BASELINES:
                    raise InputError(
                        f"profile {self.name}: unknown architecture {name!r} in {key}; known: "
                        f"{', '.join(ARCHITECTURES + BASELINES)}"
                    )
        for name, sizes in self.sizes.items():
            fits = "a dict, in which classes are 2"
            self._check(f"sizes of {name}", sizes, lambda v: v.get("classes", 2) == 2, dict, fits)
        for name, choices in self.ablation.items():
            self._check(
                f"ablation of {name}",
                choices,
                lambda v: all(isinstance(c, list) and c and are_names(c) for c in v),
                list,
                "a list of lists of sources",
            )
        names = [run.name for run in self.runs()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"profile {self.name}: two trainings would be called {twice[0]!r}")

    def stride_of(self, size):
        """Return the step between windows of a size: the profile's, but no more than a window."""
        return min(self.stride or size // 2, size)

    def _check(self, name, value, holds, kind, expected):
        if not isinstance(value, kind) or isinstance(value, bool) or not holds(value):
            raise InputError(f"profile {self.name}: {name} is {value!r}, expected {expected}")

    def with_changes(self, **changes):
        """Return the profile with some parameters changed; None leaves one as it is."""
        _check_known("a profile has no", changes, [each.name for each in fields(self)])
        return replace(self, **{key: v for key, v in changes.items() if v is not None})

    def runs(self):
        """Return the trainings of the study: every architecture, then the ablation, by seed."""
        methods = [(name, []) for name in self.architectures]
        methods += [(name, choice) for name, choices in self.ablation.items() for choice in choices]
        seeds = range(self.seed, self.seed + self.repeats)
        return [
            Run(
                "-".join([name, *sources, *([f"seed{seed}"] if seed != self.seed else [])]),
                name,
                sources,
                seed,
            )
            for seed in seeds
            for name, sources in methods
        ]

    def select(self, available):
        """Return source -> bands for the profile's sources among those `available`."""
        missing = [source for source in self.sources if source not in available]
        if missing:
            raise InputError(
                f"profile {self.name} asks for the source {missing[0]!r}; the data has "
                f"{', '.join(available)}"
            )
        return {source: available[source] for source in self.sources or available}

    def as_dict(self):
        """Return the parameters as plain numbers, strings, lists and dicts."""
        return asdict(self)


def load_profile(profile):
    """Load a profile by name (``"demo"``) or from a YAML file; a `Profile` is returned as it is.

    Raises
    ------
    InputError
        For a profile that does not exist, unknown keys, or values that cannot be.

    Examples
    --------
    >>> load_profile("paper").patch_size
    384
    """
    if isinstance(profile, Profile):
        return profile
    path = _find(str(profile))
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no parameters; expected lines such as 'patch_size: 128'")
    known = [each.name for each in fields(Profile) if each.name != "name"]
    _check_known(f"{path}: unknown parameter", content, known)
    if isinstance(rate := content.get("learning_rate"), str):  # YAML 1.1 takes 1e-3 for text
        with suppress(ValueError):
            content["learning_rate"] = float(rate)
    content.setdefault("data", f"data/{path.stem}")
    if isinstance(scene := content.get("scene"), dict):
        others, folder = SCENE_OPTIONS.keys() - {"reference"}, path.absolute().parent
        files = {k: v for k, v in scene.items() if k not in others and isinstance(v, str) and v}
        content["scene"] = scene | {key: str(folder / file) for key, file in files.items()}
    return Profile(name=path.stem, **content)


def _check_known(told, names, known):
    """Refuse a name that is none of the known ones, in the words told and with those."""
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{told} {unknown[0]!r}; known: {', '.join(known)}")


def are_names(values):
    """Tell whether values are texts that are not empty, none of them there twice."""
    values = list(values)
    return all(isinstance(v, str) and v for v in values) and len(set(values)) == len(values)


def _fits_scene(scene):
    """Tell whether a scene's entries are of the right kinds: paths, but for some settings."""
    return all(isinstance(v, SCENE_OPTIONS.get(key, str)) and v != "" for key, v in scene.items())


def _find(profile):
    if profile.endswith((".yaml", ".yml")):
        candidates = [Path(profile)]
    else:
        candidates = [folder / f"{profile}.yaml" for folder in _FOLDERS]
    for path in candidates:
        if path.is_file():
            return path
    known = sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.yaml")})
    raise InputError(f"no profile {profile!r}; known: {', '.join(known)}, or a .yaml file")
