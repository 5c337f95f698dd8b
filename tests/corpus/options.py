"""Options of the command line."""

from .harness import Case
from .seeds import tile_files, tile_table, training

DOOR = "options"


def train(*more):
    return lambda folder: [
        "train", "-m", "resunet", "--profile", tile_files(folder) / "tiny.yaml",
        "--data", folder / "data", "--out", folder / "out", *more,
    ]  # fmt: skip


def demo(*more):
    return lambda folder: ["demo-data", folder / "demo", *more]


def compile_(*more):
    return lambda folder: ["compile", tile_table(folder) / "tiles.csv", folder / "out", *more]


def line(*arguments):
    return lambda folder: list(arguments)


def named(name):
    return lambda folder: [
        "predict", "-n", name, "--profile", training(folder) / "tiny.yaml",
        "--data", folder / "data", "--out", folder,
    ]  # fmt: skip


def out(path):
    return lambda folder: [*train()(folder), "--out", path]


def inside_a_file(folder):
    return [*train()(folder), "--out", folder / "tiny.yaml" / "out"]


def compiled_into_a_file(folder):
    return ["compile", tile_table(folder) / "tiles.csv", folder / "tiles.csv"]


def a_folder_in_the_way(folder):
    tile_table(folder)
    (folder / "out" / "train.hdf5").mkdir(parents=True)
    return ["compile", folder / "tiles.csv", folder / "out", "--patch-size", 16]


NAME = ("name", "plain file name")

CASES = [
    Case("no such command", line("nonsense"), ("nonsense",)),
    Case("no such option", line("train", "--nonsense"), ("--nonsense",)),
    Case("an option without value", line("train", "--seed"), ("--seed",)),
    Case("an argument missing", line("compile"), ("CSV",)),
    Case("an argument too many", line("models", "all"), ("all",)),
    Case("map without weights", line("map", "-o", "x"), ("--weights",)),
    Case("an unknown network", train("-m", "unet"), ("'unet'", "resunet")),
    Case("a network of no name", train("-m", ""), ("''", "resunet")),
    Case("an unknown source", train("--sources", "radar"), ("'radar'", "dem, optical")),
    Case("an empty source", train("--sources", "dem,,optical"), ("sources",)),
    Case("seed -1", train("--seed", -1), ("seed", "-1")),
    Case("seed 10^30", train("--seed", 10**30), ("seed", "1000000")),
    Case("an unknown precision", train("--precision", "half"), ("'half'", "bfloat16")),
    Case("a seed in words", train("--seed", "many"), ("--seed", "many")),
    *(
        Case(f"the name {name!r}", train("-n", name), NAME)
        for name in ("..", ".", "a/b", "../x", "/x", ".x", "x\ny", "")[:7]
    ),
    Case("a name of 300 letters", train("-n", "x" * 300), ("name",)),
    Case("evaluate ../..", lambda folder: ["evaluate", "-n", "../..", "--out", folder], NAME),
    Case("predict ..", named(".."), NAME),
    Case("out is below a file", inside_a_file, ("tiny.yaml",)),
    Case("out cannot be written to", out("/proc/none"), ("/proc/none",)),
    Case("out is a device", out("/dev/null"), ("/dev/null",)),
    Case("compile into a file", compiled_into_a_file, ("tiles.csv",)),
    Case("compile over a folder", a_folder_in_the_way, ("train.hdf5",)),
    *(
        Case(f"patch size {size}", compile_("--patch-size", size), ("patch", str(size)))
        for size in (-1, 0, 10**9, "many")
    ),
    *(
        Case(f"tile size {size}", demo("--tile-size", size), (str(size),))
        for size in (-1, 0, 31, 10**9, 0.5)
    ),
    *(
        Case(f"{count} tiles per region", demo("--tiles-per-region", count), (str(count),))
        for count in (-1, 0, 2, 10**9)
    ),
    Case("an unknown region", demo("--regions", "XX"), ("'XX'", "ALP")),
    Case("an empty region", demo("--regions", "ALP,"), ("''", "ALP")),
    Case("a region twice", demo("--regions", "ALP,ALP"), ("ALP", "twice")),
    Case("regions that only test", demo("--regions", "NZ"), ("NZ", "only test")),
    Case("demo seed -1", demo("--seed", -1), ("seed", "-1")),
    Case("a profile without demo data", demo("--profile", "paper"), ("paper", "demo_data")),
    Case(
        "demo data in a file",
        lambda folder: ["demo-data", tile_files(folder) / "tiny.yaml"],
        ("tiny.yaml",),
    ),
]
