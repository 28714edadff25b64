#!/bin/sh
# Builds the image and prints its size: `build_image.sh TAG [ARGUMENT OF THE BUILD...]`.
#
# With docker, podman or buildah, whichever works first, or with the one that ENGINE names.
# `--format docker`: only that format keeps the HEALTHCHECK.
set -eu
cd "$(dirname "$0")/.."
tag=$1
shift

works() {
    case $1 in
        buildah) buildah images > /dev/null 2>&1 ;;
        *) "$1" info > /dev/null 2>&1 ;;
    esac
}

engine=${ENGINE:-}
for candidate in docker podman buildah; do
    [ -n "$engine" ] || { ! works "$candidate" || engine=$candidate; }
done
[ -n "$engine" ] || { echo "build_image: needs docker, podman or buildah" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
set -- --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --tag "$tag" "$@" .
case $engine in
    docker) DOCKER_BUILDKIT=1 docker build "$@" ;;
    podman) podman build --format docker "$@" ;;
    buildah) buildah bud --format docker --layers "$@" ;;
    *) echo "build_image: ENGINE=$engine is not supported" >&2; exit 1 ;;
esac

case $engine in
    buildah) size=$(buildah images --format '{{.Size}}' "$tag") ;;
    *) size=$("$engine" image inspect --format '{{.Size}} bytes' "$tag") ;;
esac
echo "build_image: $tag, $size with its base, uncompressed"
