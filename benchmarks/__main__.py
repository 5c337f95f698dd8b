"""Run one benchmark: ``python -m benchmarks parity``."""

import importlib
import pkgutil
import sys

import benchmarks


def main():
    names = sorted(
        m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name != "__main__"
    )
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.exit(
            f"usage: python -m benchmarks NAME [ARGUMENT ...], NAME one of: {', '.join(names)}"
        )
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(*sys.argv[2:])


if __name__ == "__main__":
    main()
