#!/bin/sh
# Install lnqtools into /opt/lnqtools of an image that has Debian's python3-venv; its sources are in /src.
# Usage: install.sh EXTRAS [TORCH_INDEX]
set -eu
extras=$1 torch_index=${2:-}
python3 -m venv /opt/lnqtools
set -- --no-cache-dir --disable-pip-version-check --constraint /src/constraints.txt
if [ -n "$torch_index" ]; then
    /opt/lnqtools/bin/pip install "$@" --index-url "$torch_index" torch torchvision
fi
/opt/lnqtools/bin/pip install "$@" "/src[$extras]"
/opt/lnqtools/bin/lnq --version
