#!/bin/sh
# Builds the image and tests it, as root, with Debian's packages alone: `run.sh PYTHON [FLAG OF
# PYTEST...]`. PYTHON has the packages of tests/python/requirements.txt.
#
# RUST_IMAGE and BASE_IMAGE name the Dockerfile's base images where a registry can be reached; both
# are made by debootstrap otherwise, once. The first run also compiles everything, later ones what has
# changed. Each step has a limit of time.
set -eu
cd "$(dirname "$0")/../.."
python=$1
shift

for tool in buildah debootstrap ip nsenter unshare; do
    command -v "$tool" > /dev/null || {
        echo "test-image: $tool is missing: apt-get install buildah debootstrap iproute2 util-linux" >&2
        exit 1
    }
done
[ "$(id -u)" = 0 ] || { echo "test-image: has to run as root" >&2; exit 1; }

# No daemon, and no privileges that a container on CI does not have.
export BUILDAH_ISOLATION=chroot

prefix=localhost/onnx-model-server-test
if [ -z "${BASE_IMAGE:-}" ] || [ -z "${RUST_IMAGE:-}" ]; then
    BASE_IMAGE=$prefix/debian:bookworm
    RUST_IMAGE=$prefix/rust:bookworm
    timeout 3600 tests/image/make_bases.sh "$BASE_IMAGE" "$RUST_IMAGE"
fi
export BASE_IMAGE IMAGE=$prefix/onnx-model-server:latest
ENGINE=buildah timeout 3600 tools/build_image.sh "$IMAGE" \
    --build-arg "BASE_IMAGE=$BASE_IMAGE" --build-arg "RUST_IMAGE=$RUST_IMAGE"

# In a network of its own, where the image's ports are free.
exec timeout 1200 unshare --net sh -ec 'ip link set lo up; exec "$@"' sh \
    "$python" -m pytest tests/image "$@"
