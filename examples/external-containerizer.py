#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program for the external containerizer: each container is a session of plain processes on this host.

    berth agent --containerizers=external --containerizer_path=/path/to/external-containerizer.py

It speaks the protocol of Mesos 0.26 and nothing else, and needs nothing but Python's standard library. It is an example:
it brings files (URIs without a scheme, or with file://) into the sandbox, counts what a container uses and ends all that a
container has started, but it enforces no limits and isolates nothing. A container that wants an image is refused with
status 3: set --containerizer_not_supported_status=3, and the next containerizer is asked.

What it knows of a container is in $MESOS_WORK_DIRECTORY/external/<id>:

    lock     held by the keeper, the process that waits for the container's command, as long as that lives
    exit     the wait status, written by the keeper
    taken    somebody has been told the status
    pids     keeper, command
    limits   the amounts that were asked for
"""

import ctypes
import fcntl
import os
import shutil
import signal
import struct
import sys
import time

NOT_SUPPORTED = 3
PR_SET_CHILD_SUBREAPER = 36


# ---- protobuf: fields by number, each a list, since any may come more than once ----


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & (2**64 - 1), at
        if shift > 63:
            raise ValueError("a number that is too long")


def decode(data):
    """The fields of a message, not interpreted: numbers, or bytes."""
    fields, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("an unknown kind of field: %d" % kind)
        if at > len(data):
            raise ValueError("a field that is cut off")
        fields.setdefault(number, []).append(value)
    return fields


def message(fields, number):
    return decode(fields.get(number, [b""])[-1])


def text(fields, number, default=None):
    return fields[number][-1].decode() if number in fields else default


def flag(fields, number, default):
    return bool(fields[number][-1]) if number in fields else default


def encode_varint(value):
    out = bytearray()
    value &= 2**64 - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def encode(*fields):
    """Of (number, value): int, float or bytes."""
    out = b""
    for number, value in fields:
        if isinstance(value, float):
            out += encode_varint(number << 3 | 1) + struct.pack("<d", value)
        elif isinstance(value, int):
            out += encode_varint(number << 3) + encode_varint(value)
        else:
            out += encode_varint(number << 3 | 2) + encode_varint(len(value)) + value
    return out


# ---- one record each way: its length in the host's order, then so many bytes ----


def exactly(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, min(size - len(data), 1 << 16))
        if not piece:
            sys.exit("external-containerizer: the agent's message is cut off")
        data += piece
    return data


def receive():
    return decode(exactly(struct.unpack("=I", exactly(4))[0]))


def send(data):
    data = struct.pack("=I", len(data)) + data
    while data:
        data = data[os.write(1, data) :]


# ---- what is known of a container ----


def place():
    return os.path.join(os.environ["MESOS_WORK_DIRECTORY"], "external")


def directory(container):
    if not container or container.startswith(".") or "/" in container:
        sys.exit("external-containerizer: %r is no container id" % container)
    return os.path.join(place(), container)


def container_of(fields):
    return text(message(fields, 1), 1, "")


def is_alive(path):
    """Whether the keeper holds its lock."""
    try:
        with open(os.path.join(path, "lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def write(path, name, content):
    with open(os.path.join(path, name + ".new"), "w") as file:
        file.write(content)
    os.rename(os.path.join(path, name + ".new"), os.path.join(path, name))


def forget(path):
    shutil.rmtree(path, ignore_errors=True)


# ---- processes ----


def process(pid):
    """(parent, is dead, ticks, pages), or None."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(rest[1]), rest[0] in (b"Z", b"X"), (int(rest[11]), int(rest[12])), int(rest[21])


def processes():
    """All of the host, by their pids."""
    table = {int(name): process(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: row for pid, row in table.items() if row}


def below(keeper):
    """Everybody that descends from the keeper, who is the parent of all that lose theirs."""
    table = processes()
    found, more = set(), {keeper}
    while more:
        more = {pid for pid, row in table.items() if row[0] in more} - found
        found |= more
    return {pid: table[pid] for pid in found if not table[pid][1]}


def measured(keeper):
    """The same, perhaps without one that came this moment, and without a look at everybody else's processes."""
    if not os.path.exists("/proc/thread-self/children"):
        return below(keeper)
    found, more = {}, [keeper]
    while more:
        pid = more.pop()
        try:
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/children" % (pid, task)) as file:
                    more += map(int, file.read().split())
        except OSError:
            pass  # It has ended.
        if pid != keeper:
            found[pid] = process(pid)
    return {pid: row for pid, row in found.items() if row and not row[1]}


def end_all(keeper):
    while True:
        pids = below(keeper)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.002)


# ---- launch ----


def environment(command):
    variables = dict(os.environ)
    for variable in message(command, 2).get(1, []):
        fields = decode(variable)
        variables[text(fields, 1, "")] = text(fields, 2, "")
    return variables


def fetch(command, sandbox):
    for uri in command.get(1, []):
        fields = decode(uri)
        source = text(fields, 1, "")
        source = source[len("file://") :] if source.startswith("file://") else source
        if "://" in source:
            sys.exit("external-containerizer: only files of this host can be fetched, not %s" % source)
        target = os.path.join(sandbox, os.path.basename(source))
        with open(source, "rb") as read, open(target, "wb") as copy:
            shutil.copyfileobj(read, copy)
        if flag(fields, 2, False):
            os.chmod(target, 0o755)


def arguments(command):
    value = text(command, 3)
    if flag(command, 6, True):
        return ["/bin/sh", "-c", value or ""]
    given = [argument.decode() for argument in command.get(7, [])]
    return [value or given[0]] + given[1:]


def wants_image(container):
    return 3 in container or 1 in message(container, 5) or any(4 in decode(v) for v in container.get(2, []))


def launch():
    fields = receive()
    executor = message(fields, 3)
    command = message(executor, 7)
    sandbox = text(fields, 4)
    if wants_image(message(executor, 11)) or 4 in command:
        sys.exit(NOT_SUPPORTED)
    path = directory(container_of(fields))
    fetch(command, sandbox)
    os.makedirs(path, 0o700)
    write(path, "limits", limits_of(executor.get(5, [])))
    for name in ("lock", "exit"):
        open(os.path.join(path, name), "x").close()
    told, tell = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(told)
        keep(path, sandbox, command, tell)
    os.close(tell)
    failure = os.read(told, 4096)
    if failure:
        os.waitpid(keeper, 0)
        forget(path)
        sys.exit("external-containerizer: " + failure.decode())


def keep(path, sandbox, command, tell):
    """The keeper: parent of all that the container starts."""
    try:
        os.setsid()
        # What loses its parent comes to us, and can not escape by a double fork.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        lock = open(os.path.join(path, "lock"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        status_file = os.open(os.path.join(path, "exit"), os.O_WRONLY)
        pid = os.fork()
        if pid == 0:
            run(sandbox, command, tell)
        write(path, "pids", "%d %d" % (os.getpid(), pid))
        os.close(tell)
        while True:
            ended, status = os.wait()
            if ended == pid:
                break
        end_all(os.getpid())
        os.write(status_file, b"%d" % status)
    finally:
        os._exit(0)


def run(sandbox, command, tell):
    try:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            os.dup2(os.open(os.path.join(sandbox, name), flags, 0o644), number)
        argv = arguments(command)
        # Python ignores it; programs expect the default.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(argv[0], argv, environment(command))
    except BaseException as error:
        os.write(tell, str(error).encode())
    finally:
        os._exit(127)


# ---- the other subcommands ----


def limits_of(resources):
    amounts = {}
    for resource in map(decode, resources):
        if 3 in resource:
            (value,) = struct.unpack("<d", message(resource, 3)[1][-1])
            name = text(resource, 1)
            amounts[name] = amounts.get(name, 0) + value
    return "".join("%s %r\n" % item for item in sorted(amounts.items()))


def wait():
    path = directory(container_of(receive()))
    # Opened first: `destroy` may take the names away.
    with open(os.path.join(path, "lock")) as lock, open(os.path.join(path, "exit")) as status:
        fcntl.flock(lock, fcntl.LOCK_SH)
        known = status.read()
    if known:
        send(encode((2, b"ended"), (3, int(known))))
    else:
        send(encode((2, b"the keeper of the container was killed, so its status is not known"),))
    try:
        open(os.path.join(path, "taken"), "w").close()
    except FileNotFoundError:
        pass


def update():
    fields = receive()
    path = directory(container_of(fields))
    write(path, "limits", limits_of(fields.get(2, [])))


def usage():
    path = directory(container_of(receive()))
    if not is_alive(path):
        return
    with open(os.path.join(path, "pids")) as file:
        keeper = int(file.read().split()[0])
    with open(os.path.join(path, "limits")) as file:
        limits = dict(line.split() for line in file)
    rows = measured(keeper).values()
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    fields = [(1, time.time()), (2, sum(r[2][0] for r in rows) / tick), (3, sum(r[2][1] for r in rows) / tick)]
    if "cpus" in limits:
        fields.append((4, float(limits["cpus"])))
    fields.append((5, sum(r[3] for r in rows) * page))
    if "mem" in limits:
        fields.append((6, int(float(limits["mem"]) * (1 << 20))))
    fields.append((30, len(rows)))
    send(encode(*fields))


def destroy():
    path = directory(container_of(receive()))
    if not os.path.isdir(path):
        return
    if is_alive(path):
        while not os.path.exists(os.path.join(path, "pids")) and is_alive(path):
            time.sleep(0.002)
        with open(os.path.join(path, "pids")) as file:
            end_all(int(file.read().split()[0]))
        with open(os.path.join(path, "lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        # Whoever waits is told before all is forgotten. If nobody does, it stays: the next `destroy` takes it.
        if not is_taken(path, 5):
            return
    elif os.path.exists(os.path.join(path, "pids")):
        # Another `destroy` may have ended it this moment, and a `wait` be about to look.
        is_taken(path, 1)
    forget(path)


def is_taken(path, patience):
    until = time.monotonic() + patience
    while os.path.isdir(path) and not os.path.exists(os.path.join(path, "taken")):
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def containers():
    try:
        ids = [name for name in os.listdir(place()) if is_alive(os.path.join(place(), name))]
    except FileNotFoundError:
        ids = []
    send(b"".join(encode((1, encode((1, name.encode())))) for name in sorted(ids)))


def recover():
    os.makedirs(place(), 0o700, exist_ok=True)


COMMANDS = (launch, wait, update, usage, destroy, containers, recover)


def main():
    words = sys.argv[1:]
    names = {command.__name__: command for command in COMMANDS}
    if words in (["--help"], ["-h"]):
        print("Usage: external-containerizer.py <%s>" % "|".join(names))
    elif not words:
        sys.exit("external-containerizer: which subcommand? One of " + ", ".join(names))
    elif words[0] not in names:
        print("external-containerizer: unknown subcommand %r" % words[0], file=sys.stderr)
        sys.exit(2)
    else:
        names[words[0]]()


if __name__ == "__main__":
    main()
