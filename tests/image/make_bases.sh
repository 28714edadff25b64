#!/bin/sh
# Makes the two base images of the Dockerfile out of Debian's packages alone, where no registry can
# be reached: `make_bases.sh BASE RUST` names them. One that is there already is kept.
#
# The first is Debian without anything, the second has Debian's own recent Rust (its packages
# `rustc-web` and `cargo-web`), as the Dockerfile's default for it has Rust's.
set -eu
base=$1
rust=$2
suite=bookworm

exists() {
    buildah inspect --type image "$1" > /dev/null 2>&1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! exists "$base"; then
    echo "make_bases: $base by debootstrap"
    debootstrap --variant=minbase "$suite" "$scratch/root" > "$scratch/log" 2>&1 \
        || { tail -n 20 "$scratch/log"; exit 1; }
    # Updates, as in Debian's published image, from wherever debootstrap took the rest.
    mirror=$(sed -n 's/^deb \([^ ]*\) .*/\1/p' "$scratch/root/etc/apt/sources.list" | head -n 1)
    printf 'deb %s %s main\n' "$mirror" "$suite" "$mirror" "$suite-updates" \
        "$mirror-security" "$suite-security" > "$scratch/root/etc/apt/sources.list"
    echo force-unsafe-io > "$scratch/root/etc/dpkg/dpkg.cfg.d/unsafe-io"
    rm -rf "$scratch"/root/var/cache/apt/archives/*.deb "$scratch"/root/var/lib/apt/lists/*
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$scratch/root" / > /dev/null
    path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    buildah config --cmd bash --env "PATH=$path" "$container"
    buildah commit --quiet --format docker --rm "$container" "$base" > /dev/null
fi

if ! exists "$rust"; then
    echo "make_bases: $rust, $base with Debian's Rust"
    # This machine may reach the package registries only with certificates of its own.
    certificates=/etc/ssl/certs/ca-certificates.crt
    container=$(buildah from "$base")
    buildah run --isolation chroot "$container" -- sh -ec '
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        apt-get install -qq -y --no-install-recommends \
            ca-certificates cargo-web gcc libc6-dev python3-pip rustc-web
        rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
    ' > "$scratch/log" 2>&1 || { tail -n 20 "$scratch/log"; exit 1; }
    if [ -f "$certificates" ]; then
        buildah copy --quiet "$container" "$certificates" "$certificates" > /dev/null
    fi
    buildah commit --quiet --format docker --rm "$container" "$rust" > /dev/null
fi
