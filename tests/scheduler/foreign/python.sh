#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a Python with public clients of Mesos from PyPI in directory $1: pymesos (a framework's library) and avmesos-cli
# (the command line). http-parser 0.9.0, which pymesos needs, ships a parser.c that Python 3.11 does not compile: its
# parser.pyx is translated again by a Cython before 3. With the file `whole` in it the directory is.
set -eu
place=$1
[ -e "$place/whole" ] && exit 0
rm -rf "$place"
python3 -m venv "$place"
pip="$place/bin/pip --quiet --disable-pip-version-check"
$pip install 'cython<3' setuptools wheel
$pip download --no-deps --no-binary :all: --no-build-isolation -d "$place/src" http-parser==0.9.0
tar -C "$place/src" -xzf "$place"/src/http-parser-0.9.0.tar.gz
"$place/bin/cython" -3 "$place/src/http-parser-0.9.0/http_parser/parser.pyx"
$pip install --no-build-isolation "$place/src/http-parser-0.9.0"
$pip install pymesos==0.3.15 avmesos avmesos-cli requests toml tenacity
touch "$place/whole"
