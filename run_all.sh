#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # told to run by another shell
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: ./run_all.sh [PROFILE] [--data DIR] [--out DIR] ... set up, then run the study (default demo)
       ./run_all.sh setup                                  only set up
       ./run_all.sh test [PYTEST OPTION ...]               set up, then run all checks

PROFILE names a file in profiles/, or is a YAML file. Options after it go to `python -m glavitu study`.

The active virtual or conda environment is used if it satisfies requirements.lock and has this
folder installed. Otherwise .venv in this folder is, and is made, or made anew, if need be.
GLAVITU_VENV=DIR puts it elsewhere.
TEXT
}

say() { printf 'run_all.sh: %s\n' "$*" >&2; }
die() { say "$@"; exit 2; }

# In the plain C locale, Python up to 3.12 cannot read an installed path with non-ASCII letters.
[[ ${LC_ALL:-} != C && ${LC_ALL:-} != POSIX ]] || unset LC_ALL
unset PYTHONPATH PYTHONHOME # of other environments

script=$(readlink -f -- "${BASH_SOURCE[0]}") # also where a link names it
root=$(CDPATH='' cd -- "$(dirname -- "$script")" && pwd -P)
venv=${GLAVITU_VENV:-$root/.venv}
venv=${venv%/}
[[ $venv == /* ]] || venv=$PWD/$venv

# Says what keeps the Python of an environment from running this checkout, if anything does.
check() {
    "$1" -I - "$root" 2>&1 <<'PYTHON' | tail -n 1
import importlib.metadata
import importlib.util
import pathlib
import sys

root = pathlib.Path(sys.argv[1])
try:
    from packaging.requirements import Requirement

    for line in (root / "requirements.lock").read_text("utf-8").splitlines():
        if pin := line.partition("#")[0].strip():
            pin = Requirement(pin)
            if pin.marker is None or pin.marker.evaluate():
                version = importlib.metadata.version(pin.name)
                if version not in pin.specifier:
                    sys.exit(f"it has {pin.name} {version}, requirements.lock {pin.specifier}")
    importlib.metadata.version("glavitu")
except ImportError as error:
    sys.exit(f"it lacks {error.name}")
package = importlib.util.find_spec("glavitu")
if not package or not package.origin or not (root / "glavitu/__init__.py").samefile(package.origin):
    sys.exit("the glavitu installed in it is not the one in this folder")
PYTHON
}

# Sets `python` to that of the first environment that passes, the active one before ours.
find_environment() {
    local prefix problem
    for prefix in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}" "$venv"; do
        python=$prefix/bin/python
        [[ -n $prefix && -x $python ]] || continue
        problem=$(check "$python") && return
        [[ -n ${quiet:-} ]] || say "not using $prefix: $problem"
    done
    return 1
}

find_base_python() {
    local candidate fits missing='no Python 3.11 to 3.13 here: install one or use environment.yml'
    for candidate in python3.11 python3.12 python3.13 python3; do
        fits='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
        "$candidate" -c "$fits" || continue
        "$candidate" -c 'import ensurepip, sys, venv; print(sys._base_executable)' && return
        missing="$candidate lacks the venv module (on Debian: apt install $candidate-venv)"
    done 2>/dev/null
    die "$missing"
}

# uv takes seconds where pip takes minutes; but what pip alone was told, such as a mirror, it ignores.
install_with_uv() {
    ! "$venv/bin/python" -m pip config list | grep -qE '\.(index-url|no-index)=' || return
    "${pip[@]}" uv==0.13.9 || return
    "$venv/bin/uv" pip install -q --python "$venv/bin/python" -r requirements.lock && return
    say 'uv could not install it; trying pip, which takes longer'
    return 1
}

make_environment() {
    local base
    base=$(find_base_python)
    if [[ -e $venv ]]; then
        [[ -f $venv/pyvenv.cfg ]] || die "$venv is no virtual environment: move it"
        # Renamed first: one half deleted could pass for a whole one.
        rm -rf -- "$venv.discarded"
        mv -- "$venv" "$venv.discarded"
    fi
    rm -rf -- "$venv.discarded"
    say "installing requirements.lock into $venv, which takes a few minutes"
    "$base" -m venv "$venv"
    cd -- "$root"
    pip=("$venv/bin/python" -m pip -qq --disable-pip-version-check install --no-compile)
    install_with_uv || "${pip[@]}" -r requirements.lock
    # On all processors, without the tests of what was installed.
    "$venv/bin/python" -m compileall -qq -j 0 -x 'site-packages/.*/tests?/' "$venv/lib" || true
    # Last, so that its presence means all is there.
    "${pip[@]}" --no-deps --no-build-isolation -e .
}

set_up() {
    find_environment && return
    local parent
    parent=$(dirname -- "$venv")
    { mkdir -p -- "$parent" && [[ -w $parent ]]; } || die "cannot write $parent: set GLAVITU_VENV"
    (
        if command -v flock >/dev/null; then
            flock -n 9 || { say 'waiting for another set-up'; flock 9; }
        fi
        quiet=1 find_environment || make_environment
    ) 9>"$venv.lock"
    quiet=1 find_environment || die "the set-up of $venv failed: $(check "$venv/bin/python")"
}

run_tests() {
    local scratch
    cd -- "$root"
    "$python" -m ruff check
    "$python" -m ruff format --check
    "$python" -m pytest -n logical --maxprocesses 4 "$@"
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # `scratch` is gone when the trap fires
    trap "rm -rf -- '$scratch'" EXIT
    cd -- "$scratch"
    "$python" -P -m glavitu study smoke
}

task=demo
case ${1:-} in
    -h | --help) usage; exit ;;
    '' | -*) ;;
    *) task=$1; shift ;;
esac
own=0
[[ $task != *.yaml && $task != *.yml || ! -f $task ]] || own=1
if [[ $task != setup && $task != test && ! -f $root/profiles/$task.yaml && $own == 0 ]]; then
    profiles=("$root"/profiles/*.yaml)
    profiles=("${profiles[@]##*/}")
    die "unknown task '$task': expected setup, test, a profile (${profiles[*]%.yaml}) or a YAML file; see --help"
fi

[[ $task != setup || $# == 0 ]] || die "setup takes no arguments: $*"

set_up
# What was checked is what runs, also in a conda environment.
export PYTHONNOUSERSITE=1
case $task in
    setup) say "ready: $python" ;;
    test) run_tests "$@" ;;
    *) exec "$python" -P -m glavitu study "$task" "$@" ;;
esac
