#!/usr/bin/env bash
# Installs what Chorus needs and is missing, saying what and why. Debian and its relatives.
#   install-deps.sh build   compiler and libraries
#   install-deps.sh test    that, the test libraries, and a Python environment in build/venv
# Optional parts (nvcc, systemd, Chromium) are never installed: a build without them is smaller.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-build}

# package:why
build_packages=(
    gcc:"C compiler" make:"build" pkg-config:"finds libraries" libc6-dev:"C library"
    libmicrohttpd-dev:"HTTP" libuv1-dev:"event loop" libcjson-dev:"JSON"
    libcurl4-openssl-dev:"chorus pull" ca-certificates:"chorus pull"
    libpcre2-dev:"tokenizer splits" libutf8proc-dev:"Unicode normal forms" curl:"the line printed at the end"
)
test_packages=(
    libcmocka-dev:"C unit tests" clang:"sanitizers and fuzzing" clang-format:"lint" git:"lint"
    python3-venv:"API tests with the official SDK" xz-utils:"test data"
)
if [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
    test_packages+=(libclang-rt-14-dev:"sanitizer runtime")
fi

if ! command -v dpkg-query >/dev/null; then
    echo "deps: no dpkg here; make sure these are installed: ${build_packages[*]%%:*}" >&2
    exit 0
fi

wanted=("${build_packages[@]}")
[ "$what" = test ] && wanted+=("${test_packages[@]}")
missing=()
for entry in "${wanted[@]}"; do
    package=${entry%%:*}
    # Any flavour of libcurl's headers will do, and two of them exclude each other.
    [ "$package" = libcurl4-openssl-dev ] && pkg-config --exists libcurl 2>/dev/null && continue
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed"; then
        missing+=("$package")
        echo "deps: $package is missing (${entry#*:})"
    fi
done
if [ ${#missing[@]} -gt 0 ]; then
    sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "deps: install them as root: apt-get install ${missing[*]}" >&2; exit 1; }
        sudo=(sudo)
        echo "deps: sudo is needed to install packages"
    fi
    log=$(mktemp)
    if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -20 "$log" >&2
        echo "deps: apt-get failed (whole log: $log)" >&2
        exit 1
    fi
    rm -f "$log"
    echo "deps: installed ${missing[*]}"
fi

if [ "$what" = test ]; then
    stamp=build/venv/.requirements
    if ! cmp -s tests/requirements.txt "$stamp"; then
        echo "deps: Python packages for the API tests (build/venv)"
        # A venv needs ensurepip; where python3 comes from elsewhere than Debian it is usually there.
        python3 -m venv build/venv
        build/venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
        cp tests/requirements.txt "$stamp"
    fi

    # LangChain and LiteLLM want an older SDK than ours, so they have an environment of their own, and a still older SDK a folder in it.
    clients=tests/api/clients
    if ! cat $clients/requirements.txt $clients/oldest.txt | cmp -s - build/clients/.requirements; then
        echo "deps: Python packages of other clients (build/clients)"
        python3 -m venv build/clients
        pip=(build/clients/bin/pip install --quiet --no-compile --disable-pip-version-check)
        rm -rf build/clients/openai1
        if "${pip[@]}" -r $clients/requirements.txt && "${pip[@]}" --no-deps --target build/clients/openai1 -r $clients/oldest.txt; then
            cat $clients/requirements.txt $clients/oldest.txt >build/clients/.requirements
        else
            echo "deps: LangChain, LiteLLM and the older SDK could not be installed; their tests are skipped" >&2
        fi
    fi
fi
