#!/bin/sh
# Make or refresh the virtual environment and say what is done. Usage: scripts/venv.sh run|dev|bench
# Done again only when pyproject.toml changed, or when more extras are asked for than before.
set -eu

extras=$1
venv=${VENV:-.venv}
stamp="$venv/.stamp-$extras"
sum=$(cksum pyproject.toml)

[ "$(cat "$stamp" 2>/dev/null || true)" = "$sum" ] && exit 0

find_python() {
    for name in python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "syncd needs Python 3.11 or newer; none of python3.13 ... python3 is." >&2
    exit 1
}

if [ ! -x "$venv/bin/pip" ]; then
    python=$(find_python)
    echo "Creating $venv with $python"
    rm -rf "$venv"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

case $extras in
    run) what=. ;;
    dev) what='.[dev,redis]' ;;
    bench) what='.[bench,redis]' ;;
    *) echo "unknown set of packages: $extras" >&2; exit 2 ;;
esac
echo "Installing $what into $venv (once; takes about a minute)"
PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/pip" install --quiet --editable "$what"
echo "$sum" > "$stamp"
