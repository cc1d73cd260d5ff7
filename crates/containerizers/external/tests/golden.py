#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes golden/: records of the external containerizer's protocol, encoded by Python's protobuf (PyPI: protobuf), from the
tables of Mesos 0.26 as its documentation and headers have them, and not from our .proto files. Only for making them anew:

    pip install protobuf && python3 golden.py
"""

import pathlib
import struct

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Message: fields as "number name type", `*` repeated, `!` required.
TABLES = {
    "ContainerID": "1 value string!",
    "TaskID": "1 value string!",
    "SlaveID": "1 value string!",
    "ExecutorID": "1 value string!",
    "FrameworkID": "1 value string!",
    "Variable": "1 name string!; 2 value string!",
    "Environment": "1 variables Variable*",
    "URI": "1 value string!; 2 executable bool; 3 extract bool; 4 cache bool",
    "CommandContainer": "1 image string!; 2 options string*",
    "CommandInfo": "1 uris URI*; 2 environment Environment; 3 value string; 4 container CommandContainer; 5 user string;"
    "6 shell bool; 7 arguments string*",
    "Scalar": "1 value double!",
    "Range": "1 begin uint64!; 2 end uint64!",
    "Ranges": "1 range Range*",
    "Set": "1 item string*",
    "Persistence": "1 id string!",
    "DiskInfo": "1 persistence Persistence; 2 volume Volume",
    "Reservation": "1 principal string",
    "Revocable": "",
    "Resource": "1 name string!; 2 type int32!; 3 scalar Scalar; 4 ranges Ranges; 5 set Set; 6 role string;"
    "7 disk DiskInfo; 8 reservation Reservation; 9 revocable Revocable",
    "Volume": "1 container_path string!; 2 host_path string; 3 mode int32!",
    "Port": "1 host_port uint32!; 2 container_port uint32!; 3 protocol string",
    "Parameter": "1 key string!; 2 value string!",
    "DockerInfo": "1 image string!; 2 network int32; 3 port_mappings Port*; 4 privileged bool; 5 parameters Parameter*;"
    "6 force_pull_image bool",
    "ContainerInfo": "1 type int32!; 2 volumes Volume*; 3 docker DockerInfo; 4 hostname string",
    "Label": "1 key string!; 2 value string",
    "Labels": "1 labels Label*",
    "Http": "1 port uint32!; 2 path string; 4 statuses uint32*",
    "HealthCheck": "1 http Http; 2 delay_seconds double; 3 interval_seconds double; 4 timeout_seconds double;"
    "5 consecutive_failures uint32; 6 grace_period_seconds double; 7 command CommandInfo",
    "DiscoveryInfo": "1 visibility int32!; 2 name string; 7 labels Labels",
    "ExecutorInfo": "1 executor_id ExecutorID!; 4 data bytes; 5 resources Resource*; 7 command CommandInfo!;"
    "8 framework_id FrameworkID; 9 name string; 10 source string; 11 container ContainerInfo; 12 discovery DiscoveryInfo",
    "TaskInfo": "1 name string!; 2 task_id TaskID!; 3 slave_id SlaveID!; 4 resources Resource*; 5 executor ExecutorInfo;"
    "6 data bytes; 7 command CommandInfo; 8 health_check HealthCheck; 9 container ContainerInfo; 10 labels Labels;"
    "11 discovery DiscoveryInfo",
    "Launch": "1 container_id ContainerID!; 2 task_info TaskInfo; 3 executor_info ExecutorInfo; 4 directory string;"
    "5 user string; 6 slave_id SlaveID; 7 slave_pid string; 8 checkpoint bool",
    "Update": "1 container_id ContainerID!; 2 resources Resource*",
    "Wait": "1 container_id ContainerID!",
    "Destroy": "1 container_id ContainerID!",
    "Usage": "1 container_id ContainerID!",
    "Containers": "1 containers ContainerID*",
    "Termination": "2 message string; 3 status int32; 4 state int32; 5 reasons int32*",
    "OldTermination": "1 killed bool!; 2 message string!; 3 status int32",
    "ResourceStatistics": "1 timestamp double!; 2 cpus_user_time_secs double; 3 cpus_system_time_secs double;"
    "4 cpus_limit double; 5 mem_rss_bytes uint64; 6 mem_limit_bytes uint64",
}

file = descriptor_pb2.FileDescriptorProto(name="golden.proto", package="golden", syntax="proto2")
for name, table in TABLES.items():
    message = file.message_type.add(name=name)
    for row in filter(None, (row.strip() for row in table.split(";"))):
        number, field_name, kind = row.split()
        field = message.field.add(name=field_name, number=int(number))
        field.label = 3 if kind.endswith("*") else 2 if kind.endswith("!") else 1
        kind = kind.rstrip("*!")
        if kind in TABLES:
            field.type, field.type_name = 11, ".golden." + kind
        else:
            field.type = {"double": 1, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}[kind]
pool = descriptor_pool.DescriptorPool()
pool.Add(file)


def record(kind, **fields):
    """A record: the length in the host's order, which is little-endian wherever this is tested, and the message."""
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("golden." + kind))(**fields)
    data = message.SerializeToString(deterministic=True)
    return struct.pack("<I", len(data)) + data


def scalar(name, value, role="*", **more):
    return dict(name=name, type=0, scalar=dict(value=value), role=role, **more)


# Replaced by what a test has, of the same length.
DIRECTORY = "/tmp/berth-golden-XXXXXXXX/sandbox"

CONTAINER = dict(
    type=1,
    volumes=[dict(container_path="/v", host_path="/h", mode=2)],
    docker=dict(
        image="busybox",
        network=2,
        port_mappings=[dict(host_port=31000, container_port=80, protocol="tcp")],
        privileged=False,
        parameters=[dict(key="k", value="v")],
        force_pull_image=True,
    ),
    hostname="h1",
)

GOLDEN = {
    "launch-task": record(
        "Launch",
        container_id=dict(value="c1"),
        task_info=dict(
            name="t",
            task_id=dict(value="t1"),
            slave_id=dict(value="S1"),
            resources=[scalar("cpus", 1.0), scalar("mem", 64.0)],
            data=b"\x00\x01",
            command=dict(
                uris=[dict(value="/a.tgz", executable=True, extract=False, cache=True)],
                environment=dict(variables=[dict(name="A", value="1")]),
                value="sleep 1",
                user="nobody",
                shell=True,
            ),
            health_check=dict(
                http=dict(port=80, path="/h", statuses=[200]),
                delay_seconds=15.0,
                interval_seconds=10.0,
                timeout_seconds=20.0,
                consecutive_failures=3,
                grace_period_seconds=5.0,
            ),
            container=CONTAINER,
            labels=dict(labels=[dict(key="k", value="v"), dict(key="only")]),
            discovery=dict(visibility=1, name="n"),
        ),
        executor_info=dict(
            executor_id=dict(value="t1"),
            resources=[
                scalar("cpus", 1.1),
                scalar("mem", 96.0),
                dict(
                    name="ports",
                    type=1,
                    ranges=dict(range=[dict(begin=31000, end=31005), dict(begin=32000, end=32000)]),
                    role="*",
                ),
                dict(name="zones", type=2, set=dict(item=["a", "b"]), role="*"),
                scalar(
                    "disk",
                    10.0,
                    role="web",
                    disk=dict(persistence=dict(id="v1"), volume=dict(container_path="data", mode=1)),
                    reservation=dict(principal="ops"),
                ),
            ],
            command=dict(value="/opt/libexec/mesos-executor", shell=True),
            framework_id=dict(value="f1"),
            name="Command Executor (Task: t1) (Command: sh -c 'sleep 1')",
            source="t1",
            container=CONTAINER,
        ),
        directory=DIRECTORY,
        slave_id=dict(value="S1"),
        slave_pid="slave(1)@10.0.0.1:5051",
        checkpoint=True,
    ),
    "launch-standalone": record(
        "Launch",
        container_id=dict(value="c2"),
        executor_info=dict(
            executor_id=dict(value="c2"),
            resources=[scalar("cpus", 0.5), scalar("mem", 256.0)],
            command=dict(
                value="/bin/echo",
                container=dict(image="docker:///busybox", options=["-v", "/a:/b"]),
                shell=False,
                arguments=["echo", "hi"],
            ),
            framework_id=dict(value="berth"),
            name="c2",
        ),
        directory=DIRECTORY,
        user="root",
        slave_id=dict(value="S1"),
        slave_pid="slave(1)@10.0.0.1:5051",
        checkpoint=False,
    ),
    "update": record(
        "Update", container_id=dict(value="c1"), resources=[scalar("cpus", 2.0), scalar("mem", 64.0)]
    ),
    "usage": record("Usage", container_id=dict(value="c1")),
    "wait": record("Wait", container_id=dict(value="c1")),
    "destroy": record("Destroy", container_id=dict(value="c1")),
    "reply-containers": record("Containers", containers=[dict(value="c1"), dict(value="c2")]),
    "reply-no-containers": record("Containers"),
    "reply-usage": record(
        "ResourceStatistics",
        timestamp=1700000000.5,
        cpus_user_time_secs=1.25,
        cpus_system_time_secs=0.5,
        cpus_limit=2.0,
        mem_rss_bytes=4096,
        mem_limit_bytes=67108864,
    ),
    "reply-wait": record("Termination", message="it met its limit", status=9, state=3, reasons=[8]),
    "reply-wait-older": record("OldTermination", killed=False, message="", status=768),
}

place = pathlib.Path(__file__).parent / "golden"
place.mkdir(exist_ok=True)
for name, data in GOLDEN.items():
    (place / (name + ".bin")).write_bytes(data)
