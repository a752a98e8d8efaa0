#!/usr/bin/env bash
# Builds the image where neither Docker nor a registry of images is reached, and starts it: with buildah, as root, on a
# base made from the Debian mirror of this machine. Takes the binary from target/release, or from target/debug with the
# argument `debug`, and leaves the image in .tools/image/storage.
set -euo pipefail
profile=${1:-release}
cd "$(dirname "$0")/../.."
work=.tools/image
export BUILDAH="buildah --root $PWD/$work/storage --runroot $PWD/$work/run --storage-driver vfs"

missing=()
for command in buildah mmdebstrap runc; do
    command -v $command >/dev/null || missing+=($command)
done
if [ ${#missing[@]} -gt 0 ]; then
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null; } || {
        echo "make image needs ${missing[*]}, and root: install them (the names of Debian's packages)"
        exit 1
    }
fi

mkdir -p $work target/image
strip --strip-debug -o target/image/messenger-connector target/$profile/messenger-connector

# Of the release of this machine: the binary wants its C library.
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
if ! $BUILDAH inspect --type image "localhost/debian:$release" >/dev/null 2>&1; then
    mirror=/etc/apt/sources.list.d/debian.sources
    [ -s $mirror ] || mirror=/etc/apt/sources.list
    mmdebstrap --quiet --variant=apt "$release" $work/base.tar $mirror
    base=$($BUILDAH from scratch)
    $BUILDAH add --quiet "$base" $work/base.tar / >/dev/null
    $BUILDAH commit --quiet --rm "$base" "localhost/debian:$release" >/dev/null
    rm $work/base.tar
fi

$BUILDAH build --quiet --format docker --isolation chroot --pull-never --layers \
    --target prebuilt --build-arg DEBIAN_BASE="localhost/debian:$release" --tag messenger-connector . >/dev/null
exec python3 deploy/image/check.py $profile
