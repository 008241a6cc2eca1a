#!/usr/bin/env bash
# Puts Chorus into a system, or takes it out again.   install.sh install|uninstall|list BUILD
#   PREFIX (/usr/local), SYSCONFDIR (/etc), LOCALSTATEDIR (/var), DESTDIR (a staging folder before all of them), DEMO=no (without the
#   demo model). `list` prints the paths. uninstall takes the same values; a configuration that was edited stays.
set -euo pipefail
cd "$(dirname "$0")/.."
what=$1 build=$2
prefix=${PREFIX:-/usr/local} sysconf=${SYSCONFDIR:-/etc} state=${LOCALSTATEDIR:-/var} dest=${DESTDIR:-}
model=models/storyteller
share=$prefix/share
# Debian's own packages have other folders for completions than what an administrator installs.
zsh=$share/zsh/site-functions
[ "$prefix" = /usr ] && zsh=$share/zsh/vendor-completions
conf=$sysconf/chorus/chorus.conf

# Where a file goes, its mode, and where it comes from. "gen:" is what the binary prints, "unit:" a file with our paths in it.
entries() {
    cat <<EOF
$prefix/bin/chorus 755 bin
$prefix/lib/systemd/system/chorus.service 644 unit:config/systemd/chorus.service
$prefix/lib/systemd/system/chorus.socket 644 unit:config/systemd/chorus.socket
$prefix/lib/systemd/user/chorus.service 644 unit:config/systemd/user/chorus.service
$prefix/lib/sysusers.d/chorus.conf 644 unit:config/systemd/sysusers.conf
$prefix/lib/tmpfiles.d/chorus.conf 644 unit:config/systemd/tmpfiles.conf
$share/man/man1/chorus.1 644 gen:man chorus.1
$share/man/man5/chorus.conf.5 644 gen:man chorus.conf.5
$share/bash-completion/completions/chorus 644 gen:completion bash
$zsh/_chorus 644 gen:completion zsh
$share/fish/vendor_completions.d/chorus.fish 644 gen:completion fish
$share/doc/chorus/README.md 644 README.md
EOF
    [ "${DEMO:-yes}" = no ] && return
    find $model -type f | LC_ALL=C sort | while read -r f; do echo "$share/chorus/$f 644 $f"; done
}

unit() {
    sed -e "s|/usr/bin/chorus|$prefix/bin/chorus|g" -e "s|/etc/chorus|$sysconf/chorus|g" \
        -e "s|/var/|$state/|g" "$1"
}

# The settings of a service: the commented defaults with the demo model's lines in force.
settings() {
    if [ "${DEMO:-yes}" = no ]; then
        sed -e "s|^#adapters =.*|adapters = $state/lib/chorus/adapters|" config/chorus.conf
    else
        sed -e "s|^#model =.*|model = $share/chorus/$model|" \
            -e "s|^#adapters =.*|adapters = $share/chorus/$model/adapters\nadapters = $state/lib/chorus/adapters|" config/chorus.conf
    fi
}

put() { # MODE DEST, the content on stdin
    mkdir -p "$(dirname "$dest$2")"
    cat >"$dest$2.new"
    chmod "$1" "$dest$2.new"
    mv -f "$dest$2.new" "$dest$2"
}

do_install() {
    [ -x "$build/chorus" ] || { echo "install: $build/chorus is not built: make" >&2; exit 1; }
    entries | while read -r to mode from; do
        case $from in
        bin)
            strip --strip-unneeded -o "$build/chorus.stripped" "$build/chorus"
            put "$mode" "$to" <"$build/chorus.stripped"
            rm "$build/chorus.stripped"
            ;;
        unit:*) unit "${from#unit:}" | put "$mode" "$to" ;;
        gen:*)
            # shellcheck disable=SC2086 # words of a command
            "$build/chorus" ${from#gen:} | put "$mode" "$to"
            ;;
        *) put "$mode" "$to" <"$from" ;;
        esac
    done
    if [ -n "$dest" ] || [ ! -e "$conf" ]; then
        settings | put 644 "$conf"
    elif ! settings | cmp -s - "$conf"; then
        settings | put 644 "$conf.dist"
        echo "install: $conf was edited and stays; today's default is $conf.dist"
    fi
    [ -n "$dest" ] && return
    echo "install: $prefix/bin/chorus; as a service of the machine: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl enable --now chorus"
}

do_uninstall() {
    if settings | cmp -s - "$dest$conf"; then rm -f "$dest$conf"; fi
    rm -f "$dest$conf.dist"
    [ -e "$dest$conf" ] && echo "uninstall: $conf was edited and stays"
    entries | while read -r to _ _; do
        rm -f "$dest$to"
        dirname "$to"
    done | LC_ALL=C sort -ru | while read -r dir; do
        # Only folders that are ours alone, or empty.
        while [ "$dir" != / ] && [ "$dir" != "$prefix" ] && rmdir "$dest$dir" 2>/dev/null; do dir=$(dirname "$dir"); done
    done
    rmdir "$dest$sysconf/chorus" 2>/dev/null || true
    echo "uninstall: what the service wrote stays: $state/lib/chorus, $state/cache/chorus, the user chorus"
}

case $what in
install) do_install ;;
uninstall) do_uninstall ;;
list) entries | cut -d' ' -f1; echo "$conf" ;;
*) echo "install: $what is neither install, uninstall nor list" >&2; exit 2 ;;
esac
