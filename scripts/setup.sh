#!/usr/bin/env bash
# What `make demo` and `make test` need: a Python, three system libraries for headless rendering, and a virtual
# environment with pinned packages. System packages are installed where the user may; otherwise the one line to type
# is printed and nothing is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "setup: $*" >&2; exit 1; }

# Install Debian packages, or say how.
system_packages() {
    local install=(apt-get install --no-install-recommends -y "$@") root=()
    command -v apt-get >/dev/null || die "missing system packages, in Debian's names: $*. Install them and try again."
    if [ "$(id -u)" != 0 ]; then
        { command -v sudo >/dev/null && sudo -n true 2>/dev/null; } || die "missing system packages. Type this, then try again:
    sudo ${install[*]}"
        root=(sudo -n)
    fi
    echo "setup: ${install[*]}"
    "${root[@]}" apt-get update -qq || true # stale lists may still do
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null || die "this failed: ${install[*]}"
}

# Python 3.11 first, because constraints.txt was resolved with it.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or later found${PYTHON:+ under the name $PYTHON}; install one (on Debian and Ubuntu: apt-get install python3 python3-venv)"
}

python=$(find_python)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# A library is there if it loads; package lists and ldconfig do not see all places.
missing=()
loads() { "$python" -c "import ctypes; ctypes.CDLL('$1')" 2>/dev/null; }
if [ "$(uname -s)" = Linux ]; then
    loads libEGL.so.1 || missing+=(libegl1)
    loads libGL.so.1 || missing+=(libgl1)
    loads libgthread-2.0.so.0 || missing+=(libglib2.0-0)
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("python$version-venv")
[ ${#missing[@]} = 0 ] || system_packages "${missing[@]}"

.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv

echo "setup: installing packages into .venv with Python $version; the first time this takes minutes"
.venv/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[sim,dev,peft]"
