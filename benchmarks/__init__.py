"""Measurements anyone can repeat: python -m benchmarks NAME."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

OUT = Path("runs/benchmarks")


def folder_from(variable):
    """Return the folder that an environment variable names."""
    from glavitu.errors import InputError

    folder = Path(os.environ.get(variable, ""))
    if variable not in os.environ or not folder.is_dir():
        raise InputError(f"{variable} is {os.environ.get(variable)!r}, expected a folder")
    return folder


def in_process(function, *arguments, **environment):
    """Return what a function answers in a process of its own; all that passes is JSON's."""
    name = function.__name__
    code = f"import json, sys; from {function.__module__} import {name}; "
    code += f"print(json.dumps({name}(*json.loads(sys.argv[1]))))"
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(
        command,
        env=os.environ | environment,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def own_memory():
    """Return MiB that this process holds itself, without pages of files, which can be dropped."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


def machine():
    """Return the processor, the number of its cores, and its units for bfloat16."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    units = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in text]
    return ", ".join([model[1] if model else "processor", f"{os.cpu_count()} cores", *units])


def write_table(name, table, rows, **more):
    """Print a table, and write it with the rows it sums up, and `more`, below `runs/benchmarks`."""
    from glavitu.files import replacing, write_json
    from glavitu.provenance import provenance
    from glavitu.report import to_markdown

    record = {"rows": rows, "machine": machine(), "provenance": provenance()} | more
    write_json(OUT / f"{name}.json", record)
    with replacing(OUT / f"{name}.md") as part:
        part.write_text(to_markdown(table), encoding="utf-8")
    print(to_markdown(table))
