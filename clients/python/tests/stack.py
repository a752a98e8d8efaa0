"""A sandbox and a service of a test's own, as `clients/README.md` has them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, cast

import messenger_connector as m

CLIENTS = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MESSENGER_CONNECTOR") or str(CLIENTS.parent / "target/debug/messenger-connector")
SCENARIOS = json.loads((CLIENTS / "scenarios.json").read_text())


class Stack:
    """Both processes. Ends them at the end of its `with` block."""

    def __init__(self, scenario: dict[str, Any], folder: Path, sandbox: tuple[str, ...] = ()) -> None:
        service = scenario.get("service", {})
        self.folder = folder
        for name, text in service.get("files", {}).items():
            (folder / name).write_text(text)
        self._processes: list[subprocess.Popen[str]] = []
        try:
            self._start_both(service, sandbox)
        except BaseException:
            self.__exit__()
            raise

    def _start_both(self, service: dict[str, Any], sandbox: tuple[str, ...]) -> None:
        self.graph_url = "http://127.0.0.1:1"
        if service.get("sandbox", []) is not None:
            _, address = self._start("sandbox", "--listen", "127.0.0.1:0", *service.get("sandbox", []), *sandbox)
            self.graph_url = f"http://{address}"
        self.address = "127.0.0.1:1"
        self._environment = {"PAGE_ACCESS_TOKEN": "token", **service.get("environment", {})}
        self._serve = service.get("serve", [])
        if self._serve is not None:
            self._service, self.address = self._start_service("127.0.0.1:0")

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def fill(self, text: str) -> str:
        return text.replace("{folder}", str(self.folder)).replace("{certificates}", str(CLIENTS / "certificates"))

    def sandbox(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.graph_url}/sandbox/{path}") as answer:
            return json.load(answer)

    def delivered(self) -> int:
        return cast(int, self.sandbox("state")["delivered"])

    def wait_for_delivered(self, count: int) -> None:
        while self.delivered() < count:
            time.sleep(0.005)

    def restart(self, by: str) -> None:
        """Ends the service by a signal, and starts it again on its port and ledger."""
        self._service.send_signal(signal.Signals[by])
        self._service.wait()
        self._service, _ = self._start_service(self.address)

    def _start_service(self, listen: str) -> tuple[subprocess.Popen[str], str]:
        more = [self.fill(argument) for argument in self._serve]
        rates = ["--rate-per-second", "0", "--media-rate-per-second", "0", "--admin-listen", "none"]
        ledger = f"sqlite://{self.folder}/ledger.db"
        return self._start(
            "serve", "--listen", listen, "--graph-url", self.graph_url, "--ledger", ledger, *rates, *more
        )

    def _start(self, *command: str) -> tuple[subprocess.Popen[str], str]:
        environment = os.environ | getattr(self, "_environment", {})
        process = subprocess.Popen(
            [BINARY, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        assert process.stdout is not None
        self._processes.append(process)
        said = []
        for line in process.stdout:
            said.append(line)
            if address := re.search(r"listens.*?(\d+\.\d+\.\d+\.\d+:\d+)", line):
                # Read to its end, or the process would stop once the pipe is full.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return process, address[1]
        raise AssertionError(f"{BINARY} {command[0]} ended before it listened:\n{''.join(said)}")


def connection(scenario: dict[str, Any], stack: Stack) -> dict[str, Any]:
    """The arguments of `connect`."""
    connect = scenario.get("connect", {})
    arguments: dict[str, Any] = {"key": connect.get("key")}
    if "tls" in connect:
        arguments["tls"] = m.Tls(**{name: stack.fill(path) for name, path in connect["tls"].items()})
    return arguments


def check_error(error: m.MessengerError, expected: dict[str, Any]) -> None:
    found = {"code": error.code.name, "reason": m.ErrorReason.Name(error.reason), "retryable": error.retryable}
    assert found == found | {name: expected[name] for name in found if name in expected}, error
    assert error.message, "an error says something"
    if "graph" in expected:
        assert error.graph is not None
        assert {"code": error.graph.code, "subcode": error.graph.subcode} == expected["graph"]
    if "violated_fields" in expected:
        assert sorted(violation.field for violation in error.violations) == sorted(expected["violated_fields"])
        assert all(violation.description for violation in error.violations)
    if expected.get("has_retry_after"):
        assert error.retry_after is not None and error.retry_after.total_seconds() > 0
