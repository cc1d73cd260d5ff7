#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the programs that the tests and benches compare with or look through, as Debian packages: those
# that are missing, quietly, without questions. Safe to run again.
#
# Nothing here is needed to build or run Berth. Where something can not be installed, the tests that want it
# are skipped and say so; this script then still ends with 0.
set -u

say() { printf 'install-test-deps: %s\n' "$*"; }

have() { command -v "$1" >/dev/null 2>&1; }

# Tests put it into root filesystems that hold nothing else, so a dynamic one is of no use.
have_static_busybox() { have busybox && ! ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>'; }

missing=
want() { # want PACKAGE PROGRAM
    have "$2" || missing="$missing $1"
}

have_static_busybox || missing="$missing busybox-static"
want crun crun
want runc runc
want strace strace
want tar tar
want xz-utils xz
want zstd zstd
want bzip2 bzip2
want iproute2 ip
want util-linux nsenter
want procps ps
want git git
# The lanes vm and systemd (docs/checklists/adding-a-test.md); the kernel itself is fetched by them, and not installed.
want qemu-system-x86 qemu-system-x86_64
want e2fsprogs mke2fs
want xfsprogs mkfs.xfs
want mmdebstrap mmdebstrap
want stress-ng stress-ng
want docker.io dockerd
# The VM has AppArmor, and a dockerd there needs it.
want apparmor apparmor_parser
want docker-registry docker-registry
want podman podman
want skopeo skopeo
want umoci umoci
want libarchive-tools bsdtar
want attr setfattr
want libcap2-bin setcap
want mmdebstrap mmdebstrap
want gcc cc
want openssl openssl
# The lxc containerizer, its templates, and systems for them.
want lxc lxc-start
[ -e /usr/share/lxc/templates/lxc-busybox ] || missing="$missing lxc-templates"
want uidmap newuidmap
# lxc-copy copies files with it.
want rsync rsync
# The example of a program for the external containerizer.
want python3 python3
# Public clients of Mesos from PyPI (tests/scheduler/foreign/python.sh), one of which is compiled.
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
[ -e "$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["include"])' 2>/dev/null)/Python.h" ] ||
    missing="$missing python3-dev"
# An ftp server for the fetcher's tests, for Debian's own Python.
/usr/bin/python3 -c 'import pyftpdlib' 2>/dev/null || missing="$missing python3-pyftpdlib"

if [ -z "$missing" ]; then
    exit 0
fi
if ! have apt-get; then
    say "no apt-get here; the tests that need one of these will be skipped:$missing"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    say "only root can install; the tests that need one of these will be skipped:$missing"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
install() {
    apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" \
        </dev/null >"$log" 2>&1
}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

say "installing:$missing"
# The lists of a fresh image are empty or old: fetch them when the first try fails.
# shellcheck disable=SC2086 # one word per package
if install $missing || { apt-get -q update </dev/null >"$log" 2>&1 && install $missing; }; then
    exit 0
fi
# One that does not exist here must not keep the others out.
for package in $missing; do
    install "$package" || say "$package could not be installed ($(tail -n 1 "$log")); tests that need it will be skipped"
done
exit 0
