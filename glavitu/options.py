"""What the commands have in common: options, and kinds of values."""

import click

from glavitu.profiles import ARCHITECTURES, BASELINES, PRECISIONS


def shared(*names):
    """Return a decorator that adds the options shared by several commands."""
    known = {
        "model": click.option(
            "-m",
            "--model",
            "architecture",
            type=click.Choice(ARCHITECTURES + BASELINES),
            help="The network.",
        ),
        "name": click.option(
            "-n",
            "--name",
            callback=_filled,
            help="Name of the result; by default the network's, or glavitu.",
        ),
        "data": click.option("--data", help="Folder of the tile files; the profile's by default."),
        "profile": click.option(
            "--profile",
            default="demo",
            show_default=True,
            help="demo, smoke, extended, paper or a YAML file.",
        ),
        "out": click.option(
            "--out", default=".", show_default=True, help="Folder for what comes out."
        ),
        "precision": click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            help="What the network computes in, instead of the profile's.",
        ),
        "seed": click.option("--seed", type=int, help="Instead of the profile's seed."),
    }

    def decorate(command):
        for name in reversed(names):
            command = known[name](command)
        return command

    return decorate


def _filled(context, option, value):
    if value == "":
        raise click.BadParameter("it is empty", context, option)
    return value


def pairs(texts, kind, expected):
    """Return NAME=VALUE texts, whose names must differ, as a dict."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in found:
            raise click.UsageError(f"{name!r} is given twice; expected {expected} once")
        try:
            found[name] = kind(value)
        except ValueError:
            value = ""
        if not name or not value:
            raise click.UsageError(f"{text!r}, expected {expected}")
    return found
