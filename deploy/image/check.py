#!/usr/bin/env python3
"""Starts the image that build.sh has built as a strict cluster would, and sends a message with it.

As Kubernetes' "restricted" profile has it: not root, no capabilities, no new privileges; and the root file system
is read-only, and the container is in a network of its own. Runs as root, because it makes a container. Its argument is
the binary's profile: a debug one is larger.
"""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

IMAGE = "localhost/messenger-connector"
BINARY = "/usr/bin/messenger-connector"
BYTES_MAX = {"release": 50_000_000, "debug": 120_000_000}[sys.argv[1]]
START_TIMEOUT_S = 30
DRAIN_TIMEOUT_S = 30


def output(*command: str, check: bool = True) -> str:
    """What a command prints to standard output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(condition: bool, what: str) -> None:
    """Ends the check with an error unless the condition holds."""
    if not condition:
        sys.exit(f"the image is wrong: {what}")


def look_at(root: pathlib.Path, config: dict) -> None:
    """What can be seen without starting it."""
    programs = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK) and ".so" not in path.name
    }
    expect(programs == {BINARY.lstrip("/")}, f"its only program is the service, not {programs}")
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    expect(size < BYTES_MAX, f"{size} bytes are more than {BYTES_MAX}")
    expect((root / "etc/ssl/certs/ca-certificates.crt").read_text().count("BEGIN CERTIFICATE") > 100, "no authorities")
    expect(int(config["User"].split(":")[0]) > 10_000, f"its user is {config['User']}")
    expect(config["StopSignal"] == "SIGTERM", f"it stops by {config['StopSignal']}")
    expect(config["Healthcheck"]["Test"][0] == "CMD", "its health check needs a shell")
    print(f"image: {size / 1e6:.1f} MB, user {config['User']}, no other program")


def bundle(folder: pathlib.Path, root: pathlib.Path, config: dict, environment: dict[str, str]) -> None:
    """Writes the runtime's configuration of the container."""
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    path = folder / "config.json"
    spec = json.loads(path.read_text())
    uid, gid = map(int, config["User"].split(":"))
    spec["root"] = {"path": str(root), "readonly": True}
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": uid, "gid": gid},
        "args": config["Entrypoint"] + config["Cmd"],
        "env": config["Env"] + [f"{name}={value}" for name, value in environment.items()],
        "cwd": config["WorkingDir"],
        "capabilities": {},
        "noNewPrivileges": True,
    }
    (volume,) = config["Volumes"]
    state = folder / "state"
    state.mkdir()
    os.chown(state, uid, gid)
    spec["mounts"].append({"destination": volume, "type": "bind", "source": str(state), "options": ["rbind", "rw"]})
    path.write_text(json.dumps(spec))


class Container:
    """A container that runs; ends with the block."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.id = f"messenger-connector-{os.getpid()}"
        self.runc = ["runc", "--root", str(folder / "runc")]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self.runc, "run", "--bundle", str(folder), self.id], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def run(self, *command: str, detach: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs a command inside."""
        options = ["--detach"] if detach else []
        stream = subprocess.DEVNULL if detach else subprocess.PIPE
        return subprocess.run(
            [*self.runc, "exec", *options, self.id, *command], stdout=stream, stderr=stream, text=True, check=False
        )

    def wait_until_healthy(self, command: list[str]) -> None:
        """Asks as the image's health check does."""
        until = time.monotonic() + START_TIMEOUT_S
        while (answer := self.run(*command)).returncode != 0:
            if time.monotonic() > until or self.process.poll() is not None:
                sys.exit(f"it does not become healthy: {answer.stderr}\n{self.log.read_text()}")
            time.sleep(0.1)

    def stop(self, signal: str) -> int:
        """Ends it, and tells its exit code."""
        output(*self.runc, "kill", self.id, signal)
        return self.process.wait(DRAIN_TIMEOUT_S)

    def remove(self) -> None:
        """Leaves nothing running."""
        output(*self.runc, "delete", "--force", self.id, check=False)
        self.process.kill()
        self.process.wait()


def main() -> None:
    """Looks at the image, starts it, uses it, ends it."""
    buildah = shlex.split(os.environ["BUILDAH"])
    config = json.loads(output(*buildah, "inspect", "--type", "image", IMAGE))["Docker"]["config"]
    with contextlib.ExitStack() as leave:
        working = output(*buildah, "from", "--pull-never", IMAGE).strip()
        leave.callback(output, *buildah, "rm", working)
        root = pathlib.Path(output(*buildah, "mount", working).strip())
        look_at(root, config)

        folder = pathlib.Path(tempfile.mkdtemp())
        leave.callback(shutil.rmtree, folder)
        environment = {
            "PAGE_ACCESS_TOKEN": "made-up",
            "CONNECTOR_GRAPH_URL": "http://127.0.0.1:8080",
            "CONNECTOR_INSECURE_NO_AUTH": "true",
            "CONNECTOR_DRAIN_DELAY_MS": "100",
        }
        bundle(folder, root, config, environment)
        container = Container(folder)
        leave.callback(container.remove)

        container.wait_until_healthy(config["Healthcheck"]["Test"][1:])
        container.run(BINARY, "sandbox", detach=True)
        sent = container.run(BINARY, "send", "text", "--to", "1001", "--messaging-type", "response", "Hello")
        expect(sent.returncode == 0, f"a message is not sent: {sent.stderr}\n{container.log.read_text()}")
        expect((folder / "state").joinpath("messenger-connector.db").exists(), "the ledger is not in the volume")
        code = container.stop(config["StopSignal"])
        expect(code == 0, f"it ends with exit code {code}: {container.log.read_text()}")
        print("image: healthy, sends, drains; read-only, without capabilities")


main()
