# SPDX-License-Identifier: Apache-2.0
"""Mesos's command line client, as PyPI has it (avmesos-cli), with the arguments that follow. As published its module of
sessions names its own package `mesos` and does not import it: this gives it the name, and changes nothing else."""
import runpy
import sys

import avmesos
import avmesos.cli.mesos
import avmesos.http

avmesos.cli.mesos.mesos = avmesos
sys.argv[0] = "mesos-cli"
runpy.run_module("avmesos.cli.mesos-cli", run_name="__main__")
