#!/bin/sh
# Print the interpreter that `.venv` is made with: the one named as argument, or else the first that is
# Python 3.11 or later and really runs (a version manager's shim may exist and fail).
# A plain python3 comes first: if it will do, it is the one for which the user has installed things.

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if [ -n "$1" ]; then
    usable "$1" && { command -v "$1"; exit 0; }
    said=$("$1" --version 2>&1 | head -n 1)
    echo "PYTHON=$1 cannot be used (${said:-it does not run}): Python 3.11 or later is needed" >&2
    exit 1
fi

for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
    usable "$candidate" && { command -v "$candidate"; exit 0; }
done
echo "no Python 3.11 or later was found on PATH (python3 is: $(python3 --version 2>&1 | head -n 1));" \
     "install one, or name it: make PYTHON=/path/to/python3.13" >&2
exit 1
