# SPDX-License-Identifier: Apache-2.0
"""The executor of the recording, with nothing but what Python brings: says that a task runs, repeats messages, kills
when asked to, and ends with 7 at a shutdown without a word on its tasks."""
import base64
import json
import os
import socket
import sys
import time
import uuid

host, port = os.environ["MESOS_AGENT_ENDPOINT"].rsplit(":", 1)
FRAMEWORK = {"value": os.environ["MESOS_FRAMEWORK_ID"]}
EXECUTOR = {"value": os.environ["MESOS_EXECUTOR_ID"]}


def post(call):
    call.update(framework_id=FRAMEWORK, executor_id=EXECUTOR)
    body = json.dumps(call).encode()
    stream = socket.create_connection((host, int(port)))
    stream.sendall(b"POST /api/v1/executor HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\n"
                   b"Accept: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    answer = stream.makefile("rb")
    status = int(answer.readline().split()[1])
    while answer.readline().strip():
        pass
    if status not in (200, 202):
        sys.exit("%s is answered with %d" % (call["type"], status))
    return answer


def events(answer):
    """The events of chunks that hold RecordIO, in whatever pieces they come."""
    pending = b""
    while True:
        size = int(answer.readline(), 16)
        pending += answer.read(size)
        answer.readline()
        if not size:
            return
        while b"\n" in pending:
            length, rest = pending.split(b"\n", 1)
            if len(rest) < int(length):
                break
            yield json.loads(rest[:int(length)])
            pending = rest[int(length):]


def update(task, state, **more):
    status = {"task_id": task, "state": state, "source": "SOURCE_EXECUTOR", "timestamp": time.time(),
              "uuid": base64.b64encode(uuid.uuid4().bytes).decode()}
    post({"type": "UPDATE", "update": {"status": dict(status, **more)}})


for event in events(post({"type": "SUBSCRIBE", "subscribe": {}})):
    if event["type"] == "LAUNCH":
        update(event["launch"]["task"]["task_id"], "TASK_RUNNING", message="from executor",
               data=base64.b64encode(b"data").decode(), labels={"labels": [{"key": "x", "value": "y"}]})
    elif event["type"] == "KILL":
        update(event["kill"]["task_id"], "TASK_KILLED")
    elif event["type"] == "MESSAGE":
        post({"type": "MESSAGE", "message": {"data": event["message"]["data"]}})
    elif event["type"] == "SHUTDOWN":
        sys.exit(7)
