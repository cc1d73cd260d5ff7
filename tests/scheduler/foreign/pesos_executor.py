# SPDX-License-Identifier: Apache-2.0
"""An executor over the older driver, by messages: pesos and compactor, unchanged from PyPI. What Python 3.11 has dropped
since is put back around them. A task runs for no time at all, or until it is killed if its data says so."""
import collections
import collections.abc
import logging
import os
import sys
import uuid

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
for name in ("Callable", "Iterable", "Mapping", "MutableMapping"):
    setattr(collections, name, getattr(collections.abc, name))
uuid.UUID.get_bytes = lambda self: self.bytes
logging.basicConfig(stream=sys.stderr, level=logging.INFO)

from mesos.interface import Executor  # noqa: E402
from pesos.executor import PesosExecutorDriver  # noqa: E402
from pesos.vendor.mesos import mesos_pb2  # noqa: E402


class Told(Executor):
    def say(self, driver, task_id, state):
        status = mesos_pb2.TaskStatus(state=state)
        status.task_id.value = task_id
        driver.sendStatusUpdate(status)

    def registered(self, driver, executor_info, framework_info, slave_info):
        print("registered by", slave_info.id.value, flush=True)

    def reregistered(self, driver, slave_info):
        print("reregistered", flush=True)

    def launchTask(self, driver, task):
        self.say(driver, task.task_id.value, mesos_pb2.TASK_RUNNING)
        if task.data != b"wait":
            self.say(driver, task.task_id.value, mesos_pb2.TASK_FINISHED)

    def killTask(self, driver, task_id):
        self.say(driver, task_id.value, mesos_pb2.TASK_KILLED)

    def frameworkMessage(self, driver, message):
        driver.sendFrameworkMessage(message)

    def shutdown(self, driver):
        print("shutdown", flush=True)


PesosExecutorDriver(Told()).run()
