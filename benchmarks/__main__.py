"""Run one benchmark: ``python -m benchmarks parity``."""

import importlib
import pkgutil

import click

import benchmarks
from glavitu.__main__ import HELP, cli
from glavitu.running import run


class Benchmarks(click.Group):
    """The modules beside this one, each a command."""

    def list_commands(self, ctx):
        """Return their names."""
        modules = pkgutil.iter_modules(benchmarks.__path__)
        return sorted(module.name for module in modules if module.name != "__main__")

    def get_command(self, ctx, name):
        """Return one of them, None where there is none."""
        if name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"benchmarks.{name}")
        paragraphs = module.__doc__.strip().split("\n\n")
        module.main.help = "\n\n".join(text for text in paragraphs if text[0] != " ")
        return module.main


if __name__ == "__main__":
    about = {"help": benchmarks.__doc__, "context_settings": HELP}
    run(Benchmarks(**about, callback=cli.callback, invoke_without_command=True))
