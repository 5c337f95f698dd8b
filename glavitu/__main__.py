"""The command line: ``python -m glavitu --help``.

Commands import Keras, which takes seconds, only after what can be checked without it.
"""

from pathlib import Path

import click

from glavitu import __version__
from glavitu.errors import InputError
from glavitu.options import pairs, shared
from glavitu.profiles import PRECISIONS
from glavitu.progress import counted
from glavitu.running import run

HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=HELP, invoke_without_command=True)
@click.version_option(__version__, prog_name="glavitu")
@click.pass_context
def cli(ctx):
    """Multi-regional glacier mapping with GlaViTU."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


@cli.command()
@shared("model", "name", "data", "profile", "out", "seed", "precision")
@click.option("--devices", type=click.IntRange(1), help="GPUs that share each batch.")
@click.option("--sources", help="Comma-separated, such as optical,dem; the profile's by default.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a result made with other settings, or whose record or log is gone; it goes as "
    "the training begins.",
)
def train(architecture, name, profile, data, sources, devices, precision, **options):
    """Train a network; goes on where a training was cut off."""
    architecture = "glavitu" if architecture is None else architecture
    changes = {"sources": None if sources is None else sources.split(","), "devices": devices}
    profile = _profile_for(("train", "val"), profile, data, precision=precision, **changes)
    from glavitu.training import train

    log = train(architecture, name=name, profile=profile, data=data, **options)
    best = log.loc[log["val_output_iou_1"].idxmax()]
    click.echo(
        f"{name or architecture}: best validation IoU {best['val_output_iou_1']:.3f} in epoch "
        f"{best['epoch'] + 1:.0f} of {len(log)}"
    )


@cli.command()
@shared("model", "name", "data", "profile", "out", "seed", "precision")
@click.option("--stride", type=click.IntRange(1), help="Between windows, in pixels.")
@click.option("--weights", help="A weight file to use, such as a published one.")
def predict(architecture, name, profile, data, seed, precision, **options):
    """Predict the test tiles, one NetCDF file each. Nothing is random: a seed changes nothing."""
    profile = _profile_for(["test"], profile, data, precision=precision)
    from glavitu.prediction import predict

    files = predict(architecture, name=name, profile=profile, data=data, **options)
    click.echo(f"{counted(len(files), 'tile')} in {files[0].parent}")


@cli.command()
@shared("model", "name", "data", "profile", "out", "seed")
def evaluate(architecture, name, data, profile, out, seed):
    """Print the mean IoU and the IoU per region of the predicted test tiles.

    The predictions hold their labels: data, profile and seed are not needed and change nothing.
    """
    from glavitu.evaluation import evaluate, pool, summarise, without_glacier

    scores = evaluate(name or architecture or "glavitu", out=out, architecture=architecture)
    summary = summarise(scores)
    click.echo(f"mean IoU {summary['mean']:.3f} (standard deviation {summary['std']:.3f})")
    for _, row in pool(scores).iterrows():
        click.echo(f"  {row['region']:<6} {row['IoU']:.3f}")
    click.echo(f"pooled {summary['pooled']:.3f}")
    for region in without_glacier(scores):
        click.echo(f"{region} has no glacier in its labels and does not count in the mean")


@cli.command()
@shared("name", "data", "profile", "out", "precision")
def calibrate(name, profile, data, precision, **options):
    """Fit the confidence of a training to the validation tiles; `map` uses it."""
    profile = _profile_for(["val"], profile, data, precision=precision)
    from glavitu.calibration import calibrate
    from glavitu.platt import tells_little
    from glavitu.remarks import LITTLE_TOLD

    found = calibrate(name or "glavitu", profile=profile, data=data, **options)
    click.echo(
        f"slope {found['slope']:.3f}, shift {found['shift']:.3f}; expected calibration error "
        f"{found['ece_before']:.4f} before, {found['ece_after']:.4f} after"
    )
    if found["ece_after"] > found["ece_before"]:
        click.echo("By that measure it makes confidence worse; remove the file to map without it.")
    if tells_little(found["slope"]):
        click.echo(LITTLE_TOLD)


@cli.command("map")
@shared("model")
@click.option("--weights", required=True, help="NAME.weights.h5 of a training.")
@click.option("--optical", help="Raster of the source optical.")
@click.option("--dem", help="Raster of elevation in metres, or of that and of slope in degrees.")
@click.option("--sar", help="Raster of the source sar.")
@click.option("--source", multiple=True, help="NAME=FILE, raster of any other source.")
@click.option("--scenes", help="CSV of many scenes: name, a column per source, date, reference.")
@click.option("-o", "--out", required=True, help="Folder for the maps.")
@click.option("--grid", help="The source whose grid is the map's; optical by default.")
@click.option(
    "--nodata", multiple=True, help="SOURCE=NUMBER that means no data but is not declared."
)
@click.option(
    "--factor",
    multiple=True,
    help="SOURCE=NUMBER by which its values are multiplied to be in the training's units, such as "
    "optical=0.0001; that of dem is for its elevation alone, such as dem=0.3048 for feet.",
)
@click.option(
    "--own-scaling", is_flag=True, help="Scale by the scene's percentiles, not the training's."
)
@click.option("--stride", type=click.IntRange(1), help="Step between windows, in pixels.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--symmetries", is_flag=True, help="Average over 8 flips and turns; 8 times slower.")
@click.option(
    "--dropout-samples",
    type=click.IntRange(0, 1000),
    default=0,
    help="Average with dropout at work.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="What the network computes in; by default as the training was told.",
)
@click.option(
    "--min-area",
    type=click.FloatRange(0),
    default=0.01,
    show_default=True,
    help="Leave smaller outlines out, km2.",
)
@click.option(
    "--smooth",
    type=click.FloatRange(0),
    default=0.0,
    help="Cut corners of outlines by up to this, in metres.",
)
@click.option("--date", default="", help="When the scene was seen, such as 2020-08-31.")
@click.option(
    "--picture",
    multiple=True,
    help="SOURCE=R,G,B, numbers from 1 of the bands that quicklook.png shows, such as "
    "optical=3,2,1.",
)
@click.option("--reference", help="Outlines to compare with, also of a whole region.")
@click.option("--scheduler", help="Address of a dask scheduler whose workers predict.")
@click.option("--overwrite", is_flag=True, help="Replace a map made with other settings.")
def map_(architecture, weights, source, scenes, nodata, factor, picture, **options):
    """Map the glaciers of a scene: rasters in; maps, outlines and confidence out."""
    from glavitu.mapping_settings import read_trained

    named = {name: options.pop(name) for name in ("optical", "dem", "sar")}
    given = [f"{name}={path}" for name, path in named.items() if path is not None]
    paths = pairs([*given, *source], str, "NAME=FILE")
    options["nodata"] = pairs(nodata, float, "SOURCE=NUMBER")
    options["factors"] = pairs(factor, float, "SOURCE=NUMBER")
    options["picture"] = pairs(
        picture, _whole_numbers, "SOURCE=R,G,B, numbers of bands such as optical=3,2,1"
    )
    built, _ = read_trained(Path(weights))
    if architecture not in (None, built["architecture"]):
        raise InputError(f"{weights} holds {built['architecture']}, not {architecture}")
    from glavitu.many_scenes import map_scenes
    from glavitu.mapping import map_scene

    if scenes is not None:
        date, reference = options.pop("date"), options.pop("reference")
        if paths or date or reference:
            raise click.UsageError("with --scenes, rasters, date and reference are in its table")
        table = map_scenes(weights, scenes, **options)
        if failed := int((table["error"] != "").sum()):
            raise InputError(
                f"{failed} of {len(table)} scenes not mapped; see {options['out']}/scenes.csv"
            )
        return
    found = map_scene(weights, paths, **options)
    for line in found["grid"] + found["remarks"]:
        click.echo(line)
    if found["share_with_data"] < 1:
        click.echo(f"{found['share_with_data']:.1%} of the pixels have data in every source.")
    outlines = counted(found["outlines"], "outline")
    click.echo(f"{outlines}, {found['area_km2']:.2f} km2, in {options['out']}")
    if "comparison" in found:
        click.echo(f"compared with {found['reference']['path']}:")
    for key, value in found.get("comparison", {}).items():
        click.echo(f"  {key}: {value:,.0f}" if abs(value) >= 1000 else f"  {key}: {value:.4g}")


def _profile_for(splits, profile, data, **changes):
    """Load a profile with changes; refuse a folder without the files of the splits."""
    from glavitu.profiles import load_profile
    from glavitu.tiles import find_split

    profile = load_profile(profile).with_changes(**changes)
    for split in splits:
        find_split(data or profile.data, split)
    return profile


def _whole_numbers(text):
    return [int(number) for number in text.split(",")]


@cli.command("compile")
@click.argument("csv")
@click.argument("directory")
@click.option("--patch-size", default=384, show_default=True, help="Least size of stored tiles.")
@click.option(
    "--bands",
    multiple=True,
    help="SOURCE=NAME,NAME,... that the rasters do not say, such as optical=blue,green,red,SWIR1.",
)
def compile_(csv, directory, patch_size, bands):
    """Compile CSV, a table of GeoTIFF tiles, to HDF5 files in DIRECTORY."""
    from glavitu.exploration import count_tiles
    from glavitu.scenes import compile_tiles
    from glavitu.tiles import open_tiles

    named = pairs(bands, lambda names: names.split(","), "SOURCE=NAME,NAME,...")
    for path in compile_tiles(csv, directory, patch_size=patch_size, bands=named).values():
        tiles = open_tiles(path)
        counts = count_tiles(tiles)
        sources = ", ".join(f"{source} ({bands})" for source, bands in tiles.sources.items())
        regions = sorted(set(counts["region"]))
        pixels, labelled, glacier = (counts[c].sum() for c in ("pixels", "labelled", "glacier"))
        click.echo(
            f"{path}: {counted(len(tiles), 'tile')} of {', '.join(regions)}; {sources}; "
            f"{labelled / pixels:.0%} labelled, {glacier / max(1, labelled):.0%} of that glacier"
        )
        if padded := sum(any(tiles.padding(tile)) for tile in tiles):
            click.echo(
                f"  {counted(padded, 'smaller tile')} padded to {patch_size} pixels with "
                "unlabelled zeros; --patch-size, the profile's patch_size, may be less"
            )


@cli.command("demo-data")
@click.argument("directory")
@shared("profile")
@click.option("--tile-size", type=int, help="Pixels of 30 m.")
@click.option("--tiles-per-region", type=int, help="Of NZ and SVAL, those that test.")
@click.option("--regions", help="Comma-separated, such as ALP,HMA; all eleven in the demo.")
@click.option("--seed", type=int, help="Of all randomness.")
def demo_data(directory, profile, regions, **options):
    """Make demo data in DIRECTORY: GeoTIFFs, tiles.csv and HDF5 files; options change a profile."""
    from glavitu.demo_data import make_demo_data
    from glavitu.profiles import load_profile

    profile = load_profile(profile)
    if not profile.demo_data:
        raise InputError(f"profile {profile.name} has no demo_data; its data must be had")
    options["regions"] = regions.split(",") if regions else None
    options = {key: value for key, value in options.items() if value is not None}
    make_demo_data(directory, **profile.demo_data | options, workers=None)
    click.echo(f"demo data in {directory}")


@cli.command()
def models():
    """Print the networks and their numbers of parameters at published size."""
    from glavitu.models import NETWORKS, build_model

    for name in NETWORKS:
        click.echo(f"{name:<10} {build_model(name).count_params():>11,} parameters")


@cli.command()
@click.argument("profile", default="demo")
@click.option("--data", help="Folder of the tile files; by default the profile's, made if missing.")
@click.option("--out", help="Folder for what comes out; runs/PROFILE by default.")
@click.option("--seed", type=int, help="Instead of the profile's seed.")
@click.option("--overwrite", is_flag=True, help="Replace trainings made with other settings.")
def study(profile, **options):
    """Run all notebooks in order: explore, train, test, compare."""
    from glavitu.study import run_study

    run_study(profile, **options)


def main():
    """Run the command line."""
    run(cli, interrupted="interrupted; the same command goes on from what is there")


if __name__ == "__main__":
    main()
