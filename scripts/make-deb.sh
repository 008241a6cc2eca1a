#!/usr/bin/env bash
# A Debian package of what was built:   make-deb.sh BUILD OUT
# DEB_VERSION (the binary's, with +cuda where it holds kernels), DEBFULLNAME and DEBEMAIL (who made it), CUDA (as in the Makefile).
# LINTIAN=no leaves the check out, DEB_COMPRESSION=none is quick. Needs dpkg-deb (always there) and dpkg-shlibdeps (dpkg-dev), which finds the libraries it depends on.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 out=$2
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v $tool >/dev/null || { echo "deb: $tool is not here: apt-get install dpkg dpkg-dev" >&2; exit 1; }
done

upstream=$("$build/chorus" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+[^ ]*' | head -1)
mark='' suggests=systemd card=''
if [ "${CUDA:-none}" = nvcc ]; then
    mark=+cuda suggests="libcuda1, systemd"
    card=$'\n .\n This build computes on NVIDIA cards where there is one; beside cuBLAS 12 or 13\n prompts are several times faster.'
fi
version=${DEB_VERSION:-$upstream$mark}
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-Chorus maintainers} <${DEBEMAIL:-maintainers@chorus.example}>"
# The moment of the last commit, so that the same sources give the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
root=$work/root
mkdir -p "$root/DEBIAN" "$out"
PREFIX=/usr SYSCONFDIR=/etc LOCALSTATEDIR=/var DESTDIR=$root scripts/install.sh install "$build"

doc=$root/usr/share/doc/chorus
cp packaging/copyright "$doc/copyright"
{
    echo "chorus ($version) unstable; urgency=medium"
    echo
    echo "  * Built from the sources at $(git describe --always --dirty 2>/dev/null || echo "version $upstream")."
    echo
    echo " -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"
gzip -9n "$root"/usr/share/man/man?/*

# dpkg-shlibdeps wants a source package around it.
mkdir -p "$work/source/debian"
printf 'Source: chorus\n\nPackage: chorus\nArchitecture: any\n' >"$work/source/debian/control"
depends=$(cd "$work/source" && dpkg-shlibdeps --ignore-missing-info -O "$root/usr/bin/chorus" 2>"$work/shlibs" | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { cat "$work/shlibs" >&2; echo "deb: dpkg-shlibdeps found no dependencies" >&2; exit 1; }

cat >"$root/DEBIAN/control" <<EOF
Package: chorus
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
Depends: adduser, init-system-helpers (>= 1.54~), $depends
Recommends: libcurl4 | libcurl4t64 | libcurl3-gnutls, ca-certificates
Suggests: $suggests
Section: net
Priority: optional
Description: local OpenAI-compatible inference server with many LoRA adapters
 Chorus keeps one copy of a base language model in memory and any number of
 LoRA adapters beside it. Each request names the adapter it wants, and one
 step of the model carries the rows of every adapter that is waiting.
 .
 The service answers OpenAI's API on 127.0.0.1:8080 with a small demo model
 until /etc/chorus/chorus.conf names another.$card
EOF
echo /etc/chorus/chorus.conf >"$root/DEBIAN/conffiles"
install -m 755 packaging/postinst packaging/prerm packaging/postrm "$root/DEBIAN/"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -type d -exec chmod 755 {} +
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

file=$out/chorus_${version}_$arch.deb
dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$root" "$file" >/dev/null
echo "deb: $file ($(($(stat -c %s "$file") >> 10)) KiB)"
[ "${LINTIAN:-yes}" = no ] && exit 0
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error,warning "$file"
else
    echo "deb: lintian is not here, the package was not checked"
fi
