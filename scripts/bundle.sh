#!/usr/bin/env bash
# Puts together what runs on a machine that has glibc and nothing else of ours, from any folder:
#   bin/chorus, lib/ (shared libraries with their licences), models/, README.md, LICENSE
#   tests/, scripts/: programs and models that test a card: BIN=. scripts/gpu_session.sh
# Usage: bundle.sh BUILD OUT MODEL, after `make BUILD=... RELOCATE=1 all gpu-bins`: those programs look for
# libraries in ../lib beside the folder they lie in.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2 model=$3

version=$("$build/chorus" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+[^ ]*' | head -1)
name=chorus-$version-linux-$(uname -m)
dir=$out/$name
rm -rf "$dir" "$dir.tar.xz"
mkdir -p "$dir"/{bin,lib/licences,models,tests}

cp "$build/chorus" "$dir/bin/"
find "$build/tests/kernels" "$build/tests/gpu" -maxdepth 1 -type f -perm -u+x -exec cp {} "$dir/tests/" \; 2>/dev/null || true
strip --strip-debug "$dir/bin/chorus"
strip --strip-all "$dir/tests/"*

# glibc's own libraries must be those of the machine; every other one comes along.
own='^(libc|libm|libdl|librt|libpthread|libresolv|libutil|ld-linux.*|linux-vdso)\.so'
for program in "$dir/bin/chorus" "$dir"/tests/*; do
    ldd "$program"
done | awk '$2 == "=>" {print $1, $3}' | sort -u | while read -r soname file; do
    [[ $soname =~ $own ]] && continue
    [ -f "$file" ] || { echo "bundle: $soname is not found" >&2; exit 1; }
    cp -L "$file" "$dir/lib/$soname"
    strip --strip-unneeded "$dir/lib/$soname"
    package=$(dpkg -S "$(realpath "$file")" 2>/dev/null | head -1 | cut -d: -f1 || true)
    copyright=/usr/share/doc/$package/copyright
    [ -n "$package" ] && [ -f "$copyright" ] && cp "$copyright" "$dir/lib/licences/$package"
    true
done

cp -r "$model" "$dir/models/"
cp README.md LICENSE "$dir/"
mkdir -p "$dir/scripts"
cp scripts/gpu_programs.sh scripts/gpu_session.sh scripts/gpu_test.sh scripts/gpu_bench.py scripts/gpu_adapters.py scripts/gpu_lost.py scripts/make_random_model.py "$dir/scripts/"
for data in tests/golden/data/*/model; do
    family=$(dirname "$data")
    mkdir -p "$dir/$family"
    cp -r "$family/model" "$family/adapters" "$dir/$family/"
done

# Every program holds the kernels. A dictionary longer than a few programs stores them once; in one block, so without threads.
tar -C "$out" --sort=name --owner=0 --group=0 -cf - "$name" | xz -T1 --lzma2=preset=6,dict=128MiB >"$dir.tar.xz"
bytes=$(stat -c %s "$dir.tar.xz")
echo "bundle: libcublas.so.13 or .12 is not in it; on a card prompts are several times faster where the loader finds one"
printf 'bundle: %s.tar.xz, %d.%d MiB (%d MiB unpacked), %d libraries\n' "$dir" $((bytes >> 20)) \
    $(((bytes & 1048575) * 10 >> 20)) "$(du -sm "$dir" | cut -f1)" "$(find "$dir/lib" -name '*.so*' | wc -l)"
