#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a Python with public clients of Mesos from PyPI in directory $1: pymesos (a framework's library), avmesos-cli
# (the command line), and pesos with compactor (the older driver of executors, by messages; its dependencies of its time
# do not run on Python 3.11, the last ones of their line do). http-parser 0.9.0, which pymesos needs, ships a parser.c that
# Python 3.11 does not compile: its parser.pyx is translated again by a Cython before 3. With this script's checksum in the
# file `whole` the directory is.
set -eu
place=$1
sum=$(cksum < "$0")
[ "$(cat "$place/whole" 2>/dev/null)" = "$sum" ] && exit 0
rm -rf "$place"
python3 -m venv "$place"
pip="$place/bin/pip --quiet --disable-pip-version-check"
$pip install 'cython<3' setuptools wheel
$pip download --no-deps --no-binary :all: --no-build-isolation -d "$place/src" http-parser==0.9.0
tar -C "$place/src" -xzf "$place"/src/http-parser-0.9.0.tar.gz
"$place/bin/cython" -3 "$place/src/http-parser-0.9.0/http_parser/parser.pyx"
$pip install --no-build-isolation "$place/src/http-parser-0.9.0"
$pip install --no-deps pesos==0.2.2 compactor==0.2.2 mesos.interface==0.21.1 protobuf==3.20.3 tornado==4.5.3
$pip install pymesos==0.3.15 avmesos avmesos-cli requests toml tenacity
echo "$sum" > "$place/whole"
