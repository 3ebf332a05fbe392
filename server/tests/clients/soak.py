"""The server under all that its clients do, for as long as is asked: sums must agree, and nothing may be left behind.

Arguments: the server's program, the folder of the text models' fixtures, a folder to work in, minutes. Each round, clients of all
doors ask, are wrong, leave and run out of time, while models are loaded, unloaded and replaced; when all is quiet, what the clients
counted, what the doors counted, and what the runtime counted are compared. In between the server is restarted under load, unless `steady`
follows: then what grows from round to round is seen, and the last third of the rounds may have no more memory than the one before.
"""

import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from openai import OpenAI

SKEP, FIXTURES, WORK, MINUTES = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]), float(sys.argv[4])
ROUND = 8.0
THREADS = 10
# Bytes of memory that may be more after the last round than after the third.
SLACK = 48 << 20
STEADY = sys.argv[5:] == ["steady"]
# Rounds of a steady run, and the bytes by which the mean of a third of them may differ from another's.
FEWEST, NOISE = 12, 4 << 20


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports


HTTP, GRPC = free_ports(2)
INFER = "/v2/models/{m}/infer"


def ask(method, path, body=None, headers=None, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Server:
    def __init__(self):
        models = WORK / "models"
        for name, text in (
            ("nop", 'kind = "nop"\n[settings]\nsize = 2\n'),
            ("spare", 'kind = "nop"\n[settings]\nsize = 2\n'),
            ("slow", 'kind = "nop_delay"\n[settings]\nsize = 2\ndelay = 0.01\n[pool]\ncapacity = 8\nmax-rows = 4\n'),
            ("broken", 'kind = "ffn"\noptional = true\n'),
        ):
            (models / name).mkdir(parents=True, exist_ok=True)
            (models / name / "skep.toml").write_text(text)
        for name in ("bert_mean", "bert_cross_encoder"):
            link = models / name
            if not link.exists():
                link.symlink_to(FIXTURES / name)
        self.models = models
        self.start()

    def start(self):
        command = [SKEP, "serve", self.models, "--http", f"127.0.0.1:{HTTP}", "--grpc", f"127.0.0.1:{GRPC}"]
        command += ["--management", "--drain-wait", "200ms", "--body-limit", "2s", "--log", "warn", "--log-format", "json"]
        self.log = open(WORK / "log", "a")
        self.process = subprocess.Popen(command, stderr=self.log)
        while True:
            assert self.process.poll() is None, "it starts"
            try:
                if ask("GET", "/v2/health/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)

    def metrics(self):
        """All lines of the page, by name and labels."""
        page = ask("GET", "/metrics")[1].decode()
        lines = (line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#"))
        return Counter({name: float(value) for name, value in lines})

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, "it ended in order"

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Counted:
    """What clients saw, by door and outcome."""

    def __init__(self):
        self.lock, self.all = threading.Lock(), Counter()

    def add(self, what, count=1):
        with self.lock:
            self.all[what] += count


GONE = (OSError, http.client.HTTPException)
counted = Counted()
# Set while the server may be away.
away = threading.Event()


def v2_json(dice):
    rows = dice.randint(1, 5)
    data = [dice.random() for _ in range(2 * rows)]
    model = dice.choice(["nop", "nop", "slow", "spare"])
    question = {"inputs": [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": data}]}
    status, body = ask("POST", f"/v2/models/{model}/infer", json.dumps(question))
    counted.add((INFER, status))
    if status == 200:
        assert np.allclose(json.loads(body)["outputs"][0]["data"], data), body
    else:
        # Full, unloaded, or being loaded.
        assert status in (503, 404) and model != "nop", (status, model, body)


def v2_wrong(dice):
    wrong = [
        ("nop", '{"inputs": []}'),
        ("nop", '{"inputs": [{"name": "x", "shape": [1152921504606846976], "datatype": "FP32", "data": [1]}]}'),
        ("nop", "{"),
        ("nop", '{"inputs": [{"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'),
        ("none", "{}"),
    ]
    model, body = dice.choice(wrong)
    status, _ = ask("POST", f"/v2/models/{model}/infer", body)
    counted.add((INFER, status))
    assert status in (400, 404), status


def v2_in_time(dice):
    question = {
        "parameters": {"timeout": dice.choice([1, 5000, 10_000_000]), "priority": dice.randint(0, 5)},
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}],
    }
    status, body = ask("POST", "/v2/models/slow/infer", json.dumps(question))
    counted.add((INFER, status))
    assert status in (200, 503), (status, body)


def leaves(dice):
    """Whoever leaves is not told, and is counted all the same, if all of the question came."""
    body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", HTTP), timeout=30) as own:
        own.sendall(head + body)
        if dice.random() < 0.5:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            own.recv(1)
    counted.add("left")


def embeds(dice):
    texts = [dice.choice(["the cat", "a dog ran", "on the mat and on"]) for _ in range(dice.randint(1, 6))]
    status, body = ask("POST", "/embed", json.dumps({"inputs": texts, "truncate": True}))
    counted.add(("/embed", status))
    assert status == 200 and len(json.loads(body)) == len(texts), (status, body)


def ranks(dice):
    status, body = ask("POST", "/rerank", json.dumps({"query": "the cat", "texts": ["a dog", "the cat sat"]}))
    counted.add(("/rerank", status))
    assert status == 200 and len(json.loads(body)) == 2, (status, body)


class Kept:
    """Clients that keep their connections, one set for each thread."""

    def __init__(self):
        self.http = httpclient.InferenceServerClient(f"127.0.0.1:{HTTP}")
        self.grpc = grpcclient.InferenceServerClient(f"127.0.0.1:{GRPC}")
        self.openai = OpenAI(base_url=f"http://127.0.0.1:{HTTP}/v1", api_key="none", max_retries=0)

    def close(self):
        self.http.close()
        self.grpc.close()
        self.openai.close()


def triton_http(dice, kept):
    x = np.array([[dice.random(), 2.0]], dtype=np.float32)
    given = httpclient.InferInput("x", x.shape, "FP32")
    given.set_data_from_numpy(x, binary_data=dice.random() < 0.7)
    packing = dice.choice([None, "gzip", "deflate"])
    answer = kept.http.infer("nop", [given], request_compression_algorithm=packing)
    counted.add((INFER, 200))
    assert np.array_equal(answer.as_numpy("y"), x)


def triton_grpc(dice, kept):
    x = np.array([[dice.random(), 2.0]], dtype=np.float32)
    given = grpcclient.InferInput("x", x.shape, "FP32")
    given.set_data_from_numpy(x)
    answer = kept.grpc.infer("nop", [given])
    counted.add(("ModelInfer", 0))
    assert np.array_equal(answer.as_numpy("y"), x)


def triton_stream(dice, kept):
    answers, done = [], threading.Semaphore(0)

    def heard(result, error):
        answers.append((result, error))
        done.release()

    count = dice.randint(1, 8)
    kept.grpc.start_stream(heard)
    for i in range(count):
        x = np.array([[float(i), 2.0]], dtype=np.float32)
        given = grpcclient.InferInput("x", x.shape, "FP32")
        given.set_data_from_numpy(x)
        kept.grpc.async_stream_infer("nop", [given], request_id=str(i))
    for _ in range(count):
        assert done.acquire(timeout=60), "an answer of a stream is missing"
    kept.grpc.stop_stream()
    assert all(error is None for _, error in answers), answers
    counted.add(("ModelStreamInfer", 0), count)


def openai(dice, kept):
    answer = kept.openai.embeddings.create(model="bert_mean", input=["the cat", "a dog"])
    counted.add(("/v1/embeddings", 200))
    assert len(answer.data) == 2


PLAIN = [v2_json, v2_json, v2_wrong, v2_in_time, leaves, embeds, ranks]
KEPT = [triton_http, triton_http, triton_grpc, triton_grpc, triton_stream, openai]
failures = []


def client(number, end):
    dice = random.Random(number)
    kept = Kept()
    while time.monotonic() < end and not failures:
        act = dice.choice(PLAIN + KEPT)
        try:
            act(dice, kept) if act in KEPT else act(dice)
        except Exception as error:
            # Of a server that is being restarted, whoever comes is not let in; those that were are answered.
            if away.is_set() and not isinstance(error, AssertionError):
                kept.close()
                kept = Kept()
                continue
            failures.append((act.__name__, repr(error)))
    kept.close()


def manager(number, end):
    dice = random.Random(-number)
    while time.monotonic() < end and not failures:
        name, act = dice.choice([("nop", "load"), ("spare", "load"), ("spare", "unload"), ("broken", "load"), ("none", "load")])
        try:
            status, body = ask("POST", f"/v2/repository/models/{name}/{act}", "{}")
            right = (200,) if name in ("nop", "spare") else (400, 404, 422, 500, 503)
            if status not in right and not (away.is_set() and status == 503):
                failures.append((name, act, status, body))
        except GONE as error:
            if not away.is_set():
                failures.append((name, act, repr(error)))


def load(number, restart=False):
    end = time.monotonic() + ROUND
    threads = [threading.Thread(target=client, args=(1000 * number + i, end)) for i in range(THREADS)]
    threads.append(threading.Thread(target=manager, args=(number, end)))
    for thread in threads:
        thread.start()
    if restart:
        time.sleep(ROUND / 2)
        away.set()
        server.stop()
        server.start()
    for thread in threads:
        thread.join()
    away.clear()
    assert not failures, failures[:5]


def quiet():
    """Waits until nothing is at work, and returns the page."""
    while True:
        page = server.metrics()
        if page["skep_requests_at_work"] == 0 and not any(
            value for name, value in page.items() if name.startswith(("skep_waiting_tasks", "skep_in_flight"))
        ):
            return page


def of(page, name, **labels):
    """The sum of all series of this name with these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value for line, value in page.items() if line.split("{")[0] == name and all(one in line for one in wanted)
    )


def agree(before, page, seen):
    """Compares what clients counted with what doors and runtime did."""
    now = lambda name, **labels: of(page, name, **labels) - of(before, name, **labels)
    http_requests = "skep_http_requests_total"
    left = seen.pop("left", 0)
    # Those that left: answered before, given up, or refused for want of room.
    doors = Counter()
    for (door, code), count in seen.items():
        name = http_requests if door.startswith("/") else "skep_grpc_requests_total"
        label = {"endpoint": door} if door.startswith("/") else {"method": door}
        doors[door] += now(name, code=code, **label) - count
        if door != INFER:
            assert now(name, code=code, **label) == count, (door, code, now(name, code=code, **label), count)
    all_infer = now(http_requests, endpoint=INFER)
    told = sum(count for (door, _), count in seen.items() if door == INFER)
    # One that leaves before its question was read is none.
    assert told <= all_infer <= told + left, (all_infer, told, left)
    submitted, answered = now("skep_submitted_total"), now("skep_tasks_total")
    assert submitted == answered, (submitted, answered)
    return int(sum(seen.values()) + left), int(submitted)


WORK.mkdir(parents=True, exist_ok=True)
(WORK / "log").write_text("")
server = Server()
try:
    end, number, baseline = time.monotonic() + 60 * MINUTES, 0, None
    rounds = tasks = requests = restarts = 0
    memories = []
    while time.monotonic() < end or rounds < (FEWEST if STEADY else 6):
        number += 1
        if number % 5 == 0 and not STEADY:
            load(number, restart=True)
            restarts += 1
            baseline = None
            continue
        before = quiet()
        counted.all.clear()
        load(number)
        made, ran = agree(before, quiet(), Counter(counted.all))
        rounds, requests, tasks = rounds + 1, requests + made, tasks + ran
        memory, descriptors = server.memory(), server.descriptors()
        memories.append(memory)
        print(f"round {number}: {made} requests, {ran} tasks, {memory >> 20} MiB, {descriptors} descriptors", flush=True)
        if baseline is None and number % 5 == 2:
            baseline = memory
        assert baseline is None or memory <= baseline + SLACK, (memory, baseline)
        assert descriptors < 60, descriptors
    if STEADY:
        third = len(memories) // 3
        before, last = (sum(part) / third for part in (memories[-2 * third : -third], memories[-third:]))
        assert last <= before + NOISE, [memory >> 20 for memory in memories]
    server.stop()
    log = (WORK / "log").read_text()
    assert "panicked" not in log, log
    print(f"{requests} requests and {tasks} tasks in {rounds} rounds and {restarts} restarts under load: all sums agree")
finally:
    server.process.kill()
