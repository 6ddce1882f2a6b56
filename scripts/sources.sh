#!/bin/sh
# Unpacks the source distributions that the requirement files $2… name into $1/sources, where $1 is a virtual
# environment; says nothing when they are there.
set -eu
cd "$(dirname "$0")/.."
folder=$1
shift
mkdir -p "$folder/sources"
for file; do
    sed -n 's/^\([A-Za-z0-9._-]*\)==\([^ ]*\).*/\1 \2/p' "$file" | while read -r name version; do
        [ ! -d "$folder/sources/$name-$version" ] || continue
        archive=$folder/sources/$name-$version.tar.gz
        "$folder/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
            --no-binary "$name" --dest "$folder/sources" "$name==$version"
        tar --extract --gzip --file "$archive" --directory "$folder/sources"
        rm "$archive"
    done
done
