"""A sandbox, a service and a Prometheus that watches it, and a load that shows all that can become of messages."""

import contextlib
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

SERVICE = os.environ.get("MESSENGER_CONNECTOR", "target/debug/messenger-connector")
START_TIMEOUT_S = 30
HTTP_TIMEOUT_S = 10
# Recipients that the sandbox treats so.
FAULTS = ("fail-551", "fail-10-2018278", "transient-1", "reset-after", "null-in-batch", "slow-300")
# From which part of the time on Graph does what.
WEATHER = (
    (0.00, {"latency_ms": 60, "usage_percent": 20}),
    (0.40, {"latency_ms": 250, "usage_percent": 85}),
    (0.65, {"latency_ms": 60, "usage_percent": 40}),
    (0.75, {"throttle_all": True}),
    (0.78, {"throttle_all": None}),
)


def free_port() -> int:
    """A port that nobody listens on, and that no connection is given for its own end."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    sys.exit("no port is free")


class Stack:
    """The processes; they end with the block that `leave` is of."""

    def __init__(self, folder: pathlib.Path, leave: contextlib.ExitStack) -> None:
        self.folder = folder
        self.leave = leave
        (self.sandbox,) = self.start(r"--graph-url (http://\S+)", SERVICE, "sandbox", "--listen=127.0.0.1:0")
        grpc, admin = self.start(
            r"grpc listens address=(\S+)[\s\S]*admin listens address=(\S+)",
            SERVICE,
            "serve",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            f"--graph-url={self.sandbox}",
            f"--ledger=sqlite://{folder}/ledger.db",
            "--drain-delay-ms=0",
        )
        self.address = f"http://{grpc}"
        config = folder / "prometheus.yaml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: messenger-connector\n"
            f"    static_configs: [{{targets: ['{admin}']}}]\n"
        )
        port = free_port()
        self.prometheus = f"http://127.0.0.1:{port}"
        self.start(
            "(ready to receive web requests)",
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/prometheus",
            f"--web.listen-address=127.0.0.1:{port}",
        )

    def start(self, ready: str, *command: str) -> tuple[str, ...]:
        """Starts a process that is ended with the block; the groups of what it says when it is ready."""
        path = self.folder / f"log-{random.randrange(10**9)}"
        with path.open("w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {"PAGE_ACCESS_TOKEN": "any", "NO_COLOR": "1"}
            )
        self.leave.callback(process.wait)
        self.leave.callback(process.terminate)
        until = time.monotonic() + START_TIMEOUT_S
        while not (said := re.search(ready, path.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"{command[0]} does not start:\n{path.read_text()}")
            time.sleep(0.05)
        return said.groups()

    def load(self, seconds: float) -> None:
        """Bulks, unary calls and Graph's weather, for so long."""
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=run, args=(until,)) for run in (self.bulks, self.calls)]
        for thread in threads:
            thread.start()
        started = time.monotonic()
        for part, faults in WEATHER:
            time.sleep(max(0, started + part * seconds - time.monotonic()))
            body = json.dumps(faults).encode()
            headers = {"content-type": "application/json"}
            request = urllib.request.Request(f"{self.sandbox}/sandbox/faults", body, headers)
            urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S).close()
        for thread in threads:
            thread.join()

    def bulks(self, until: float) -> None:
        """Sends audience after audience, and each a second time, which is replayed."""
        number = 0
        while time.monotonic() < until:
            people = [f"{number}{person:05}" for person in range(1000)]
            people[::25] = [f"{FAULTS[at % len(FAULTS)]}.{number}-{at}" for at in range(len(people[::25]))]
            audience = self.folder / f"audience-{number}.csv"
            audience.write_text("recipient\n" + "\n".join(people) + "\n")
            for run in ("sent", "replayed"):
                results = self.folder / f"{run}-{number}.csv"
                self.send("bulk", str(audience), f"--bulk-id=bulk-{number}", "--text=Hello", f"--results={results}")
            number += 1

    def calls(self, until: float) -> None:
        """Sends one message after the other."""
        number = 0
        while time.monotonic() < until:
            recipient = FAULTS[number // 10 % len(FAULTS)] if number % 10 == 9 else str(2000 + number)
            self.send("send", "text", "Hello", f"--to={recipient}")
            number += 1

    def send(self, *arguments: str) -> None:
        """Runs a command that sends; what it says of single messages does not matter."""
        command = [SERVICE, *arguments, f"--address={self.address}", "--messaging-type=update"]
        subprocess.run(command, capture_output=True, check=False)

    def query(self, expression: str, start: float, end: float) -> list[dict]:
        """The series of an expression over a time."""
        arguments = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": "1"})
        return self.ask(f"query_range?{arguments}")["result"]

    def names(self) -> set[str]:
        """The names of all metrics."""
        return set(self.ask("label/__name__/values"))

    def ask(self, what: str) -> dict | list:
        """An answer of Prometheus' API."""
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{what}", timeout=HTTP_TIMEOUT_S) as answer:
            return json.loads(answer.read())["data"]
