"""hivemind's Runtime under load: for each line with a number of seconds, one round and one line of JSON.

Callers are two processes with an asyncio loop each, as hivemind's own connection handlers are.
"""

import asyncio
import json
import multiprocessing as mp
import os
import sys
import time

import torch
from hivemind.moe.server.module_backend import ModuleBackend
from hivemind.moe.server.runtime import Runtime
from hivemind.utils.tensor_descr import BatchTensorDescriptor

CALLERS = 2
LATENCY_OF_ONE_IN = 8


class Counted(torch.nn.Module):
    """Runs in this process, on the Runtime's thread."""

    batches = 0

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        Counted.batches += 1
        return self.inner(x)


def make(kind):
    if kind == "null":
        return 1, torch.nn.Identity()
    torch.manual_seed(7)
    return 1024, torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 1024))


async def call(pools, x, number, until, marks, latencies):
    i = 0
    while time.perf_counter() < until:
        begun = time.perf_counter()
        # Always the same pool, so that each has as many tasks outstanding as Skep's pools have.
        await pools[number % len(pools)].submit_task(x)
        now = time.perf_counter()
        marks["first"] = min(marks.get("first", now), now)
        marks["last"] = now
        # From the first answer on, and so the rest of the first batch too: a little more than Skep is given.
        marks["tasks"] = marks.get("tasks", 0) + 1
        if i % LATENCY_OF_ONE_IN == 0:
            latencies.append((now - begun) * 1e6)
        i += 1


async def round_of(pools, x, outstanding, first, seconds):
    marks, latencies = {}, []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(call(pools, x, first + i, until, marks, latencies) for i in range(outstanding)))
    return marks, latencies


def caller(pools, width, outstanding, first, pipe):
    torch.set_num_threads(1)
    x = torch.ones(1, width)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    while seconds := pipe.recv():
        pipe.send(loop.run_until_complete(round_of(pools, x, outstanding, first, seconds)))


def family(pid):
    """This process and all that it has started."""
    yield pid
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as children:
            for child in children.read().split():
                yield from family(int(child))


def cpu_seconds():
    ticks = 0
    for pid in family(os.getpid()):
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main():
    kind, pools, outstanding, max_rows = sys.argv[1], *map(int, sys.argv[2:])
    # As many as every other system has.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    width, _ = make(kind)
    schema = BatchTensorDescriptor(width)
    backends = {}
    for i in range(pools):
        module = Counted(make(kind)[1])
        backends[f"block.{i}"] = ModuleBackend(
            f"block.{i}", module, args_schema=(schema,), outputs_schema=schema, max_batch_size=max_rows
        )
    forward = [backend.forward_pool for backend in backends.values()]
    pipes = []
    for i in range(CALLERS):
        ours, theirs = mp.Pipe()
        share = outstanding // CALLERS
        mp.Process(target=caller, args=(forward, width, share, i * share, theirs), daemon=True).start()
        pipes.append(ours)
    runtime = Runtime(backends, prefetch_batches=1)
    runtime.start()
    runtime.ready.wait()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = float(line)
        if seconds <= 0:
            break
        batches, cpu = Counted.batches, cpu_seconds()
        for pipe in pipes:
            pipe.send(seconds)
        results = [pipe.recv() for pipe in pipes]
        cpu, batches = cpu_seconds() - cpu, Counted.batches - batches
        tasks = sum(marks["tasks"] for marks, _ in results)
        sample = {
            "tasks": tasks,
            "rows": tasks,
            "batches": batches,
            "seconds": max(marks["last"] for marks, _ in results) - min(marks["first"] for marks, _ in results),
            "cpu_seconds": cpu,
            "latencies_us": [latency for _, latencies in results for latency in latencies],
            "device_busy": None,
        }
        print(json.dumps(sample), flush=True)
    for pipe in pipes:
        pipe.send(0)
    runtime.shutdown()


main()
