#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drives an agent with Mesos's own command line client, as PyPI has it (`pip install avmesos avmesos-cli`), unchanged.

    mesos_cli.py ADDRESS:PORT CONTAINER TTY_CONTAINER

Its `task exec` and `task attach` ask a master where a task runs, and speak RecordIO to the agent from then on. There is
no master, so this script serves the two documents that they ask for (/slaves and /tasks) and has the containers stand in
as tasks. What is checked: exec with output and an exit status, exec with input (`-i`), exec with a terminal (`-i -t`:
sizes, Ctrl-C, and what it does before it begins: a connection that attaches and ends at once), and attach with its own
keys to leave.
"""

import json
import os
import pty
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import avmesos
import avmesos.http
import avmesos.cli.mesos as client

# As published it names its own package `mesos` in this one module, and does not import it; this is the name.
client.mesos = avmesos

ADDRESS, CONTAINER, TTY_CONTAINER = sys.argv[1:4]


def task(name, container):
    status = {"container_status": {"container_id": {"value": container}}}
    return {"id": name, "state": "TASK_RUNNING", "slave_id": "S0", "statuses": [status]}


class Master(BaseHTTPRequestHandler):
    def do_GET(self):
        documents = {
            "/slaves": {"slaves": [{"id": "S0", "pid": f"slave(1)@{ADDRESS}"}]},
            "/tasks": {"tasks": [task("plain", CONTAINER), task("tty", TTY_CONTAINER)]},
        }
        body = json.dumps(documents[self.path.split("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Config:
    """What the client reads from ~/.mesos/config.toml."""

    def agent_ssl(self):
        return False

    def agent_ssl_verify(self):
        return False

    def ssl_verify(self):
        return False

    def agent_timeout(self):
        return 10

    def principal(self):
        return None

    def secret(self):
        return None

    def authentication_header(self):
        return None


def in_a_child(work, feed=None, terminal=False):
    """Runs `work` in a child with a terminal or pipes, feeds it, and returns what it wrote and its status."""
    if terminal:
        pid, master = pty.fork()
        if pid == 0:
            os._exit(run(work))
        reader = writer = master
    else:
        (reader, out), (stdin, writer) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(out, 1)
            os.dup2(stdin, 0)
            for fd in (reader, out, stdin, writer):
                os.close(fd)
            os._exit(run(work))
        os.close(out)
        os.close(stdin)
    written = b""
    for wanted, text in feed or []:
        while wanted not in written:
            written += os.read(reader, 4096)
        os.write(writer, text)
    if not terminal:
        os.close(writer)
    while True:
        try:
            piece = os.read(reader, 4096)
        except OSError:
            break
        if not piece:
            break
        written += piece
    _, status = os.waitpid(pid, 0)
    return written, os.waitstatus_to_exitcode(status)


def run(work):
    sys.stdin, sys.stdout = open(0, buffering=1), open(1, "w", buffering=1)
    try:
        return work()
    except Exception as error:
        print(f"FAILED {type(error).__name__}: {error}", flush=True)
        return 99


def check(what, got, wanted):
    written, status = got
    text, code = wanted
    if text not in written or status != code:
        sys.exit(f"{what}: {written!r} with status {status}, not {text!r} with {code}")
    print(f"ok: {what}", flush=True)


def main():
    server = HTTPServer(("127.0.0.1", 0), Master)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    master = f"127.0.0.1:{server.server_port}"

    def io(name):
        return client.TaskIO(master, Config(), name)

    def execute(name, script, **how):
        return lambda: io(name).exec("/bin/sh", ["-c", script], **how)

    threading.excepthook = lambda _: None
    got = in_a_child(execute("plain", "echo out; exit 5"))
    check("exec with its output and its status", got, (b"out\n", 5))
    got = in_a_child(execute("plain", "kill -9 $$"))
    check("exec that dies of a signal", got, (b"", 137))
    got = in_a_child(execute("plain", "read x; echo got $x", _interactive=True), [(b"", b"word\n")])
    check("exec with input", got, (b"got word\n", 0))
    script = "echo ready; trap 'echo caught; exit 6' INT; while :; do sleep 0.05; done"
    got = in_a_child(execute("plain", script, _interactive=True, _tty=True), [(b"ready", b"\x03")], True)
    check("exec with a terminal, and Ctrl-C", got, (b"caught", 6))
    attach = lambda: io("tty").attach()
    got = in_a_child(attach, [(b"", b"echo $((40+2))\n"), (b"42", b"\x10\x11")], True)
    check("attach to a terminal, and leave it", got, (b"42", 0))
    time.sleep(0.2)
    print("all ok", flush=True)


main()
