# SPDX-License-Identifier: Apache-2.0
"""A framework written with pymesos, unchanged from PyPI: one executor, so many tasks, each to TASK_FINISHED.

framework.py MASTER TASKS [EXECUTOR [wait]]: prints a line for each task that did not, and `all ok` with the seconds that
it took. The executor is executor.py beside this, or another one there. With `wait` the tasks run until they are killed:
`all run` is printed when they do, and they are killed when a line is read.
"""
import os
import sys
import threading
import time

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler, encode_data


class Many(Scheduler):
    def __init__(self, count, executor="executor.py", data=None):
        self.data = data
        self.running = set()
        self.all_run = threading.Event()
        self.waiting = [f"t{number}" for number in range(count)]
        self.ended = {}
        self.count = count
        self.over = threading.Event()
        self.began = time.time()
        here = os.path.dirname(os.path.abspath(__file__))
        self.executor = Dict()
        self.executor.executor_id.value = "python"
        self.executor.name = "python"
        self.executor.command.value = f"exec {sys.executable} {here}/{executor}"
        self.executor.resources = resources(0.1, 64)

    def registered(self, driver, framework_id, master_info):
        self.executor.framework_id = framework_id

    def resourceOffers(self, driver, offers):
        for offer in offers:
            amounts = {one.name: one.scalar.value for one in offer.resources if one.type == "SCALAR"}
            cpus, mem = amounts.get("cpus", 0) - 0.1, amounts.get("mem", 0) - 64
            tasks = []
            while self.waiting and cpus >= 0.1 and mem >= 8:
                name = self.waiting.pop()
                task = Dict()
                task.task_id.value = name
                task.name = name
                task.agent_id.value = offer.agent_id.value
                task.executor = self.executor
                task.data = encode_data((self.data or name).encode())
                task.resources = resources(0.1, 8)
                tasks.append(task)
                cpus, mem = cpus - 0.1, mem - 8
            filters = {"refuse_seconds": 0}
            if tasks:
                driver.launchTasks(offer.id, tasks, filters)
            else:
                driver.declineOffer(offer.id, filters)

    def statusUpdate(self, driver, update):
        if update.state == "TASK_RUNNING":
            self.running.add(update.task_id.value)
            if len(self.running) == self.count:
                self.all_run.set()
        if update.state in ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"):
            return
        self.ended[update.task_id.value] = (update.state, update.get("message"))
        if len(self.ended) == self.count:
            self.took = time.time() - self.began
            self.over.set()


def resources(cpus, mem):
    return [
        Dict(name="cpus", type="SCALAR", scalar=Dict(value=cpus)),
        Dict(name="mem", type="SCALAR", scalar=Dict(value=mem)),
    ]


def main():
    master, count = sys.argv[1], int(sys.argv[2])
    scheduler = Many(count, *sys.argv[3:])
    framework = Dict(user="root", name="pymesos", hostname="", checkpoint=True)
    driver = MesosSchedulerDriver(scheduler, framework, master, use_addict=True)
    driver.start()
    expected = "TASK_FINISHED"
    if scheduler.data:
        expected = "TASK_KILLED"
        if scheduler.all_run.wait(60):
            print("all run", flush=True)
        sys.stdin.readline()
        # The driver may just be away from its master, and then it drops what it is asked.
        while not scheduler.over.wait(1):
            for name in sorted(scheduler.running - set(scheduler.ended)):
                driver.killTask(Dict(value=name))
    done = scheduler.over.wait(60)
    driver.stop()
    driver.join()
    wrong = {name: end for name, end in scheduler.ended.items() if end[0] != expected}
    if not done or wrong:
        print(f"{len(scheduler.ended)} of {count} tasks ended; not {expected}: {wrong}")
        sys.exit(1)
    print(f"all ok: {count} tasks in {scheduler.took:.2f} s")


main()
