"""Runs the service under load with a Prometheus beside it, and asks every query of the dashboard and of the alert rules.

A panel whose query has no data, and a rule that names a metric that does not exist, is an error. `--picture FILE` also
draws the panels as Grafana lays them out. The service is the one in MESSENGER_CONNECTOR; prometheus is found in PATH.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

DASHBOARD = pathlib.Path("deploy/grafana/messenger-connector.json")
RULES = pathlib.Path("deploy/prometheus/alerts.yaml")
SERVICE = os.environ.get("MESSENGER_CONNECTOR", "target/debug/messenger-connector")
# What Grafana puts in place of these.
VARIABLES = {"$__rate_interval": "5s", "$job": ".*", "$instance": ".*"}
START_TIMEOUT_S = 30
# Outcomes of every kind are among these recipients of the sandbox.
FAULTS = ("fail-551", "fail-10-2018278", "transient-1", "reset-after", "null-in-batch", "slow-300")


def free_port() -> int:
    """A port that nobody listens on, and that no connection is given for its own end."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    sys.exit("no port is free")


def fetch(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


class Stack:
    """Sandbox, service and Prometheus; they end with the block."""

    def __init__(self, folder: pathlib.Path, leave: contextlib.ExitStack) -> None:
        self.folder = folder
        self.leave = leave
        sandbox = self.start(r"--graph-url (http://\S+)", SERVICE, "sandbox", "--listen=127.0.0.1:0", "--latency-ms=60")
        grpc, admin = self.start(
            r"grpc listens address=(\S+)[\s\S]*admin listens address=(\S+)",
            SERVICE,
            "serve",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            f"--graph-url={sandbox[0]}",
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

    def command(self, *arguments: str) -> None:
        """Runs a command that sends; what it says of single messages does not matter."""
        subprocess.run([SERVICE, *arguments, f"--address={self.address}"], capture_output=True, check=False)

    def load(self, seconds: float) -> None:
        """Bulks, one of them sent a second time, and unary calls, for so long."""
        until = time.monotonic() + seconds

        def bulks() -> None:
            number = 0
            while time.monotonic() < until:
                audience = self.folder / f"audience-{number // 2}.csv"
                if number % 2 == 0:
                    people = [f"{number}{person:05}" for person in range(1000)]
                    people[::25] = [f"{FAULTS[at % len(FAULTS)]}.{number}-{at}" for at in range(len(people[::25]))]
                    audience.write_text("recipient\n" + "\n".join(people) + "\n")
                self.command(
                    "bulk",
                    str(audience),
                    f"--bulk-id=bulk-{number // 2}",
                    "--messaging-type=update",
                    "--text=Hello",
                    f"--results={self.folder}/results-{number}.csv",
                )
                number += 1

        def calls() -> None:
            number = 0
            while time.monotonic() < until:
                recipient = FAULTS[number // 10 % len(FAULTS)] if number % 10 == 9 else str(2000 + number)
                self.command("send", "text", f"--to={recipient}", "--messaging-type=response", "Hello")
                number += 1

        threads = [threading.Thread(target=run) for run in (bulks, calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def query(self, expression: str, start: float, end: float) -> list[dict]:
        """The series of an expression over a time."""
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        arguments = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": "1"})
        return json.loads(fetch(f"{self.prometheus}/api/v1/query_range?{arguments}"))["data"]["result"]

    def names(self) -> set[str]:
        """The names of all metrics."""
        return set(json.loads(fetch(f"{self.prometheus}/api/v1/label/__name__/values"))["data"])


def panels() -> list[dict]:
    """The panels of the dashboard that show data."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def ask(stack: Stack, start: float, end: float) -> tuple[dict[int, list[tuple[str, list]]], list[str]]:
    """The data of each panel by its id, each series with its legend; and what has none."""
    data, missing = {}, []
    for panel in panels():
        data[panel["id"]] = lines = []
        for target in panel["targets"]:
            series = stack.query(target["expr"], start, end)
            if not any(math.isfinite(float(value)) for one in series for _, value in one["values"]):
                missing.append(f"{panel['title']}: {target['expr']}")
            for one in series:
                legend = re.sub(r"{{(\w+)}}", lambda name: one["metric"].get(name[1], ""), target["legendFormat"])
                points = [(at - start, float(value)) for at, value in one["values"]]
                lines.append((legend.strip() or "none", points))
    return data, missing


def unknown_metrics(names: set[str]) -> list[str]:
    """Names in the alert rules that no metric has."""
    named = set(re.findall(r"\b(?:messenger|rpc|http)_\w+", re.sub(r"by \([^)]*\)|{[^}]*}", "", RULES.read_text())))
    return sorted(named - names)


def main() -> None:
    """Runs it all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20, help="how long the load lasts")
    parser.add_argument("--picture", type=pathlib.Path, help="where to draw the panels")
    options = parser.parse_args()
    with contextlib.ExitStack() as leave:
        folder = pathlib.Path(leave.enter_context(tempfile.TemporaryDirectory()))
        stack = Stack(folder, leave)
        start = time.time()
        stack.load(options.seconds)
        # The last scrape is over by then.
        time.sleep(2)
        data, missing = ask(stack, start, time.time())
        if missing:
            sys.exit("the dashboard asks for what does not exist:\n" + "\n".join(missing))
        if unknown := unknown_metrics(stack.names()):
            sys.exit(f"the alert rules name metrics that do not exist: {unknown}")
        print(f"dashboard: {len(data)} panels have data")
        if options.picture:
            # Needed for this only.
            from picture import draw

            draw(panels(), data, options.picture)


main()
