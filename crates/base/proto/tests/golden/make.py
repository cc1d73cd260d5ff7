#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes messages.tsv beside it: what Python's protobuf makes of our .proto files.

Each line is a message's full name, its JSON as Mesos writes it, and its wire format in hex, separated by tabs. Run it
after a change of the .proto files, in an environment with `pip install protobuf grpcio-tools`, and look at the
difference: a line that changes is a message that older clients read differently.
"""

import importlib
import json
import pathlib
import sys
import tempfile

from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
FILES = ["mesos/v1/mesos.proto", "berth/v1/container.proto", "mesos/v1/agent.proto"]

ID = {"value": "b", "parent": {"value": "a"}}
RESOURCES = [
    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
    {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 18446744073709551615}]}},
    {"name": "zones", "type": "SET", "set": {"item": ["x", "y"]}},
]
CONTAINER = {
    "type": "MESOS",
    "volumes": [
        {"mode": "RO", "container_path": "/v", "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "p"}}},
        {"mode": "RW", "container_path": "/s", "source": {"type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "AAH/"}}}},
    ],
    "hostname": "h",
    "mesos": {"image": {"type": "OCI", "cached": False, "oci": {"reference": "r"}}},
    "network_infos": [{"ip_addresses": [{"protocol": "IPv6", "ip_address": "::1"}], "name": "n", "groups": ["g"]}],
    "linux_info": {
        "effective_capabilities": {"capabilities": ["CHOWN", "CHECKPOINT_RESTORE"]},
        "ipc_mode": "SHARE_PARENT",
        "share_cgroups": False,
        "user_namespace": {"mode": "PRIVATE", "uid_maps": [{"container_id": 0, "host_id": 100000, "size": 65536}]},
        "read_only_rootfs": True,
        "cdi_devices": ["v/c=d"],
    },
    "rlimit_info": {"rlimits": [{"type": "RLMT_NOFILE", "hard": 1048576, "soft": 1024}]},
    "tty_info": {"window_size": {"rows": 24, "columns": 80}},
}

MESSAGES = [
    ("mesos.v1.agent.Call", {"type": "GET_HEALTH"}),
    ("mesos.v1.agent.Call", {"type": "READ_FILE", "read_file": {"path": "/ä", "offset": 9007199254740993, "length": 0}}),
    ("mesos.v1.agent.Call", {"type": "KILL_CONTAINER", "kill_container": {"container_id": ID, "signal": -1}}),
    (
        "mesos.v1.agent.Call",
        {
            "type": "LAUNCH_CONTAINER",
            "launch_container": {
                "container_id": ID,
                "command": {
                    "uris": [{"value": "http://h/x", "extract": False}],
                    "environment": {"variables": [{"name": "A", "type": "VALUE", "value": "1"}]},
                    "shell": False,
                    "value": "/bin/ls",
                    "arguments": ["ls", "-l"],
                    "user": "nobody",
                },
                "resources": RESOURCES,
                "container": CONTAINER,
                "limits": {"cpus": {"value": 1.5}, "mem": {"value": "Infinity"}},
            },
        },
    ),
    ("mesos.v1.agent.Call", {"type": "UPDATE_CONTAINER", "update_container": {"container_id": ID, "resources": RESOURCES[:1]}}),
    (
        "mesos.v1.agent.Call",
        {"type": "READ_LOGS", "read_logs": {"container_id": ID, "stream": "STDERR", "since": 7, "follow": True}},
    ),
    (
        "mesos.v1.agent.Response",
        {
            "type": "GET_VERSION",
            "get_version": {"version_info": {"version": "1.12.0", "build_date": "d", "build_time": 1795452925.0}},
        },
    ),
    (
        "mesos.v1.agent.Response",
        {
            "type": "WAIT_CONTAINER",
            "wait_container": {
                "exit_status": 9,
                "state": "TASK_FAILED",
                "reason": "REASON_CONTAINER_LIMITATION_MEMORY",
                "limitation": {"resources": RESOURCES[:1]},
                "message": "Memory \"limit\"\n",
            },
        },
    ),
    (
        "mesos.v1.agent.Response",
        {
            "type": "INSPECT_CONTAINER",
            "inspect_container": {
                "container_id": ID,
                "containerizer": "mesos",
                "state": {"name": "PREPARING", "age": {"nanoseconds": 12000000000}, "waiting_for": "network: plugin bridge"},
                "limits": {"mem": {"value": 32.0}},
                "pids": [1, 300],
                "namespaces": [{"type": "net", "inode": 4026531840, "host": True}],
            },
        },
    ),
    (
        "mesos.v1.agent.ProcessIO",
        {"type": "DATA", "data": {"type": "STDOUT", "data": "TWFya2VkICcvJyBhcyByc2xhdmUNCg=="}},
    ),
    (
        "mesos.v1.agent.ProcessIO",
        {"type": "CONTROL", "control": {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 30000000000}}}},
    ),
    (
        "berth.v1.Event",
        {
            "type": "TERMINATED",
            "sequence": 12,
            "time": {"nanoseconds": 1795456635156854000},
            "container_id": ID,
            "termination": {"exit_status": 256},
        },
    ),
    ("berth.v1.LogChunk", {"type": "DATA", "stream": "STDOUT", "offset": 5, "data": "aGkK"}),
]


def main():
    pool = descriptor_pool.DescriptorPool()
    with tempfile.NamedTemporaryFile() as out:
        if protoc.main(["protoc", f"-I{PROTO}", "--include_imports", f"--descriptor_set_out={out.name}", *FILES]) != 0:
            sys.exit("protoc failed")
        files = importlib.import_module("google.protobuf.descriptor_pb2").FileDescriptorSet.FromString(
            pathlib.Path(out.name).read_bytes()
        )
    for file in files.file:
        pool.Add(file)
    lines = []
    for name, tree in MESSAGES:
        message = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()
        json_format.ParseDict(tree, message)
        text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False)
        lines.append("\t".join([name, text, message.SerializeToString(deterministic=True).hex()]))
    (HERE / "messages.tsv").write_text("\n".join(lines) + "\n")


main()
