#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes conversations.jsonl beside it: what is said to an agent, and what it is to answer, for each call of the API.

Each call is there twice, in JSON and in protobuf; the protobuf is what Python's protobuf makes of agent.proto beside,
which is written from the tables of the API and not from our own .proto files. Run it in an environment with
`pip install protobuf grpcio-tools` after a change of either, and look at the difference.

A line is one request: its encoding, its bytes (in hex, for protobuf), and what comes back: a status, and a `text`, or an
`answer` (a pattern of JSON: see shape.rs), and its `bytes` where they are always the same; `records` of a stream.
"""

import importlib
import json
import pathlib
import sys
import tempfile

from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent

RESOURCES = [
    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
    {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
]
NANOS = {"nanoseconds": "@number"}


def classes():
    pool = descriptor_pool.DescriptorPool()
    with tempfile.NamedTemporaryFile() as out:
        if protoc.main(["protoc", f"-I{HERE}", f"--descriptor_set_out={out.name}", "agent.proto"]) != 0:
            sys.exit("protoc failed")
        files = importlib.import_module("google.protobuf.descriptor_pb2").FileDescriptorSet.FromString(
            pathlib.Path(out.name).read_bytes()
        )
    for file in files.file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"golden.{name}"))


MESSAGE = classes()


def encoded(name, tree):
    return json_format.ParseDict(tree, MESSAGE(name)()).SerializeToString(deterministic=True).hex()


def fixed(tree):
    """Whether a pattern stands for one answer only."""
    if isinstance(tree, dict):
        return "@more" not in tree and all(fixed(part) for part in tree.values())
    if isinstance(tree, list):
        return all(fixed(part) for part in tree)
    return not (isinstance(tree, str) and tree.startswith("@"))


class Conversation:
    def __init__(self, encoding):
        self.encoding = encoding
        self.lines = []

    def form(self, tree):
        return json.dumps(tree) if self.encoding == "json" else encoded("Call", tree)

    def say(self, kind, payload=None, status=200, **more):
        call = {"type": kind} if payload is None else {"type": kind, kind.lower(): payload}
        line = {"call": kind, "encoding": self.encoding, "request": self.form(call), "status": status}
        self.lines.append({**line, **more})

    def ask(self, kind, answer, payload=None):
        """What is answered with a message; `answer` is what it holds, none where it is only a type."""
        tree = {"type": kind} if answer is None else {"type": kind, kind.lower(): answer}
        more = {}
        if fixed(tree) and self.encoding == "protobuf":
            # Lists that JSON writes though they are empty are nothing in protobuf.
            empty = kind in ("GET_STATE", "GET_TASKS", "GET_EXECUTORS", "GET_FRAMEWORKS")
            bare = {"type": kind, kind.lower(): {part: {} for part in answer} if kind == "GET_STATE" else {}}
            more["bytes"] = encoded("Response", bare if empty else tree)
        self.say(kind, payload, answer=tree, **more)

    def input(self, container, pieces, **more):
        """A stream of records: whose input it is, then pieces of it."""
        first = {"type": "CONTAINER_ID", "container_id": container}
        others = [{"type": "PROCESS_IO", "process_io": piece} for piece in pieces]
        name = "ATTACH_CONTAINER_INPUT"
        records = [self.form({"type": name, name.lower(): payload}) for payload in [first, *others]]
        line = {"call": name, "encoding": self.encoding, "records": records, "status": 200, "text": ""}
        self.lines.append({**line, **more})


def data(text):
    encoded_text = importlib.import_module("base64").b64encode(text).decode()
    return {"type": "DATA", "data": {"type": "STDIN", "data": encoded_text}}


def about_the_agent(say):
    say.ask("GET_HEALTH", {"healthy": True})
    say.ask("GET_FLAGS", {"flags": "@list"})
    say.ask("GET_VERSION", {"version_info": {"version": "@text", "@more": True}})
    say.ask("GET_METRICS", {"metrics": "@list"}, {"timeout": {"nanoseconds": 5000000000}})
    say.ask("GET_LOGGING_LEVEL", {"level": 0})
    say.say("SET_LOGGING_LEVEL", {"level": 0, "duration": {"nanoseconds": 1000000000}}, text="")
    say.ask("GET_AGENT", {"agent_info": {"hostname": "@text", "port": "@number", "resources": "@list", "id": {"value": "@text"}}})
    tasks = ["pending_tasks", "queued_tasks", "launched_tasks", "terminated_tasks", "completed_tasks"]
    parts = {
        "get_tasks": {name: [] for name in tasks},
        "get_executors": {"executors": [], "completed_executors": []},
        "get_frameworks": {"frameworks": [], "completed_frameworks": []},
    }
    say.ask("GET_STATE", parts)
    say.ask("GET_TASKS", parts["get_tasks"])
    say.ask("GET_EXECUTORS", parts["get_executors"])
    say.ask("GET_FRAMEWORKS", parts["get_frameworks"])
    say.ask("GET_OPERATIONS", {})
    say.ask("GET_OPERATIONS_IN_FLIGHT", {})
    say.ask("EXPLAIN_GC", {"@more": True})
    first = {"type": "SUBSCRIBED", "subscribed": {"sequence": "@number", "heartbeat_interval": NANOS}}
    say.say("SUBSCRIBE", {}, first=first)


def about_providers(say):
    kind, name = "org.example.none", "n"
    info = {"info": {"type": kind, "name": name}}
    say.ask("GET_RESOURCE_PROVIDERS", {})
    wrong = f"Failed to validate resource provider config with type '{kind}' and name '{name}': "
    why = f"Unknown local resource provider type '{kind}'"
    say.say("ADD_RESOURCE_PROVIDER_CONFIG", info, 400, text=wrong + why)
    missing = f"Resource provider with type '{kind}' and name '{name}' does not exist"
    say.say("UPDATE_RESOURCE_PROVIDER_CONFIG", info, 409, text=missing)
    say.say("REMOVE_RESOURCE_PROVIDER_CONFIG", {"type": kind, "name": name}, text="")
    gone = "Resource provider 'x' does not exist"
    say.say("MARK_RESOURCE_PROVIDER_GONE", {"resource_provider_id": {"value": "x"}}, 500, text=gone)


def about_a_container(say, letter):
    name = f"c{letter}"
    at = {"value": name}
    of = {"container_id": at}
    status = {"container_id": at, "executor_pid": "@number", "@more": True}
    # The first process of a container gets no signal that it does not ask for.
    command = {"value": "trap 'exit 7' TERM; echo hello; echo oh >&2; sleep 1000 & wait"}
    launch = {**of, "command": command, "resources": RESOURCES, "limits": {"mem": {"value": 96.0}}}
    say.say("LAUNCH_CONTAINER", launch, text="")
    say.say("LAUNCH_CONTAINER", launch, 202, text="")
    # Both lines are there.
    say.say("READ_LOGS", of, reads={"STDOUT": "hello\n", "STDERR": "oh\n"}, again=True)
    say.say("READ_LOGS", {**of, "stream": "STDOUT", "since": 2}, reads={"STDOUT": "llo\n"})
    entry = {"container_id": at, "container_status": status, "resource_statistics": {"timestamp": "@number", "@more": True}}
    show = {"show_standalone": True, "show_nested": True}
    say.ask("GET_CONTAINERS", {"containers": [entry]}, show)
    say.ask("GET_CONTAINERS", None, {"show_nested": True})
    inspection = {"container_id": at, "containerizer": "mesos", "state": {"name": "RUNNING", "@more": True}, "@more": True}
    say.ask("INSPECT_CONTAINER", inspection, of)
    path = f"/containers/{name}"
    file = {"nlink": "@number", "size": "@number", "mtime": NANOS, "mode": "@number", "uid": "root", "gid": "root"}
    files = [{"path": f"{path}/{part}", **file} for part in ("stderr", "stdout")]
    say.ask("LIST_FILES", {"file_infos": files}, {"path": path})
    say.say("LIST_FILES", {"path": "/nowhere"}, 404, text="")
    say.ask("READ_FILE", {"size": 6, "data": "ZWxs"}, {"path": f"{path}/stdout", "offset": 1, "length": 3})
    say.ask("READ_FILE", {"size": 6, "data": ""}, {"path": f"{path}/stdout", "offset": 9})
    say.say("READ_FILE", {"path": path, "offset": 0}, 400, text="Cannot read a directory.\n")
    say.say("UPDATE_CONTAINER", {**of, "resources": RESOURCES, "limits": {"mem": {"value": 128.0}}}, text="")
    say.say("PAUSE", of, text="")
    paused = {"container_id": at, "state": {"name": "PAUSED", "paused": True, "@more": True}, "@more": True}
    say.ask("INSPECT_CONTAINER", paused, of)
    say.say("RESUME", of, text="")
    say.say("RENAME", {**of, "name": f"{name}-new"}, text="")
    renamed = {"container_id": {"value": f"{name}-new"}}
    say.say("REMOVE_CONTAINER", renamed, 500, text="Container has not terminated yet")
    say.say("KILL_CONTAINER", {**renamed, "signal": 15}, text="")
    say.ask("WAIT_CONTAINER", {"exit_status": 7 << 8}, renamed)
    say.say("REMOVE_CONTAINER", renamed, text="")
    say.say("WAIT_CONTAINER", of, 404, text=f"Container {name} cannot be found")
    say.say("KILL_CONTAINER", of, 404, text=f"Container '{name}' cannot be found (or is already killed)")


def about_sessions(say, letter):
    top = {"value": f"s{letter}"}
    say.say("LAUNCH_CONTAINER", {"container_id": top, "command": {"value": "exec sleep 1000"}, "resources": RESOURCES}, text="")
    inner = {"container_id": {"value": "one", "parent": top}}
    command = {"value": "echo out; echo err >&2; exit 3"}
    session = "LAUNCH_NESTED_CONTAINER_SESSION"
    say.say(session, {**inner, "command": command}, reads={"STDOUT": "out\n", "STDERR": "err\n"})
    say.ask("WAIT_NESTED_CONTAINER", {"exit_status": 3 << 8}, inner)
    say.say("REMOVE_NESTED_CONTAINER", inner, text="")
    say.say("REMOVE_NESTED_CONTAINER", inner, text="")
    cat = {"container_id": {"value": "cat", "parent": top}}
    say.say(session, {**cat, "command": {"value": "cat"}}, hold="cat")
    beat = {"type": "CONTROL", "control": {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 1}}}}
    say.input(cat["container_id"], [data(b"hi\n"), beat, data(b"")])
    say.lines.append({"call": session, "encoding": say.encoding, "ends": "cat", "reads": {"STDOUT": "hi\n"}})
    lasting = {"container_id": {"value": "two", "parent": top}}
    say.say(session, {**lasting, "command": {"value": "echo up; exec sleep 1000"}}, hold="two", until="up")
    say.say("REMOVE_NESTED_CONTAINER", lasting, 500, text="Nested container has not terminated yet")
    say.say("KILL_NESTED_CONTAINER", {**lasting, "signal": 9}, text="")
    say.ask("WAIT_NESTED_CONTAINER", {"exit_status": 9}, lasting)
    say.lines.append({"call": session, "encoding": say.encoding, "ends": "two", "reads": {"STDOUT": "up\n"}})
    other = {"container_id": {"value": "n", "parent": {"value": "nope"}}}
    missing = "Parent container nope does not exist"
    say.say("LAUNCH_NESTED_CONTAINER", {**other, "command": {"value": "true"}}, 400, text=missing)
    say.say("KILL_NESTED_CONTAINER", other, 404, text="Container 'nope.n' cannot be found (or is already killed)")
    say.say("WAIT_NESTED_CONTAINER", other, 404, text="Container nope.n cannot be found")
    say.say("KILL_CONTAINER", {"container_id": top}, text="")
    say.ask("WAIT_CONTAINER", {"exit_status": 9}, {"container_id": top})
    say.say("REMOVE_CONTAINER", {"container_id": top}, text="")


def about_nested(say, letter):
    top = {"value": f"n{letter}"}
    say.say("LAUNCH_CONTAINER", {"container_id": top, "command": {"value": "exec sleep 1000"}, "resources": RESOURCES}, text="")
    child, deep = {"value": "child", "parent": top}, {"value": "deep", "parent": {"value": "child", "parent": top}}
    sleeps = {"container_id": child, "command": {"value": "exec sleep 1000"}}
    say.say("LAUNCH_NESTED_CONTAINER", sleeps, text="")
    say.say("LAUNCH_NESTED_CONTAINER", sleeps, 202, text="")
    say.say("LAUNCH_CONTAINER", {"container_id": deep, "command": {"value": "echo deep; exit 5"}}, text="")
    say.ask("WAIT_CONTAINER", {"exit_status": 5 << 8}, {"container_id": deep})
    say.say("READ_LOGS", {"container_id": deep}, reads={"STDOUT": "deep\n"})
    limited = {"value": "limited", "parent": top}
    launch = {"container_id": limited, "command": {"value": "exec sleep 1000"}, "limits": {"mem": {"value": 32.0}}}
    say.say("LAUNCH_CONTAINER", launch, text="")
    say.say("UPDATE_CONTAINER", {"container_id": limited, "limits": {"mem": {"value": 48.0}}}, text="")
    statistics = {"timestamp": "@number", "@more": True}
    entry = lambda at: {
        "container_id": {"value": at["value"]},
        "container_status": {"container_id": at, "executor_pid": "@number", "@more": True},
        "resource_statistics": statistics,
    }
    show = {"show_standalone": True, "show_nested": True}
    say.ask("GET_CONTAINERS", {"containers": [entry(at) for at in (top, child, limited)]}, show)
    command = {"value": "echo in; exit 6"}
    session = {"container_id": {"value": "s", "parent": child}, "command": command}
    say.say("LAUNCH_NESTED_CONTAINER_SESSION", session, reads={"STDOUT": "in\n"})
    docker = {"type": "DOCKER", "docker": {"image": "busybox"}}
    other = {"container_id": {"value": "other", "parent": top}, "command": {"value": "true"}}
    unsupported = "The provided ContainerInfo is not supported"
    say.say("LAUNCH_NESTED_CONTAINER", {**other, "container": docker}, 400, text=unsupported)
    say.say("WAIT_NESTED_CONTAINER", {"container_id": other["container_id"]}, 404, text=f"Container n{letter}.other cannot be found")
    say.say("REMOVE_CONTAINER", {"container_id": child}, 500, text="Nested container has not terminated yet")
    say.say("KILL_CONTAINER", {"container_id": limited}, text="")
    say.ask("WAIT_NESTED_CONTAINER", {"exit_status": 9}, {"container_id": limited})
    say.say("REMOVE_CONTAINER", {"container_id": limited}, text="")
    # What is in a container ends with it.
    say.say("KILL_CONTAINER", {"container_id": top}, text="")
    say.ask("WAIT_CONTAINER", {"exit_status": 9}, {"container_id": top})
    say.ask("WAIT_NESTED_CONTAINER", {"exit_status": 9}, {"container_id": child})
    say.say("LAUNCH_NESTED_CONTAINER", other, 400, text=f"Parent container n{letter} does not exist")
    say.say("REMOVE_CONTAINER", {"container_id": top}, text="")
    say.say("WAIT_NESTED_CONTAINER", {"container_id": deep}, 404, text=f"Container n{letter}.child.deep cannot be found")
    say.say("REMOVE_NESTED_CONTAINER", {"container_id": child}, 500, text="Unknown root container")


def about_terminals(say, letter):
    at = {"value": f"t{letter}"}
    of = {"container_id": at}
    container = {"type": "MESOS", "tty_info": {"window_size": {"rows": 24, "columns": 80}}}
    command = {"value": "stty -echo; read x; stty size; echo got $x"}
    say.say("LAUNCH_CONTAINER", {**of, "command": command, "container": container, "resources": RESOURCES}, text="")
    say.say("ATTACH_CONTAINER_OUTPUT", of, hold="tty")
    size = {"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": {"window_size": {"rows": 30, "columns": 99}}}}
    say.input(at, [size, data(b"word\n")])
    say.lines.append({"call": "ATTACH_CONTAINER_OUTPUT", "encoding": say.encoding, "ends": "tty", "within": {"STDOUT": "30 99\r\ngot word\r\n"}})
    say.ask("WAIT_CONTAINER", {"exit_status": 0}, of)
    say.say("REMOVE_CONTAINER", of, text="")


def about_images(say):
    excluded = {"type": "DOCKER", "docker": {"name": "library/busybox:1"}}
    say.say("PRUNE_IMAGES", {"excluded_images": [excluded]}, text="")
    # There is no such host; in which words depends on the machine.
    nowhere = {"type": "DOCKER", "docker": {"name": "registry.invalid/x:1"}}
    say.say("EXPLAIN_PULL", {"image": nowhere}, 404)


def main():
    lines = []
    for encoding, letter in (("json", "j"), ("protobuf", "p")):
        say = Conversation(encoding)
        about_the_agent(say)
        about_providers(say)
        about_a_container(say, letter)
        about_sessions(say, letter)
        about_nested(say, letter)
        about_terminals(say, letter)
        about_images(say)
        lines += say.lines
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (HERE / "conversations.jsonl").write_text(text + "\n")


main()
