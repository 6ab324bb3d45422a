#!/bin/sh
# Writes the three lock files: exact pins with hashes, and no index address.
set -eu
uv=$1
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header "$@"
}
# hatchling and editables build this package itself, without a network.
compile pyproject.toml --all-extras --group dev -o requirements.lock
printf 'hatchling\neditables\n' | compile - pyproject.toml --extra embedded --extra documents \
    -c requirements.lock -o requirements-demo.lock
echo 'uv==0.13.8' | compile - -o requirements-uv.lock
