"""Runs the service under load with a Prometheus beside it, and asks every query of the dashboard.

A query without data is an error, and so is an alert rule that names a metric that does not exist. `--picture FILE` also
draws the panels as Grafana lays them out. The service is the one in MESSENGER_CONNECTOR; prometheus is found in PATH.
"""

import argparse
import contextlib
import json
import math
import pathlib
import re
import sys
import tempfile
import time

from stack import Stack

DASHBOARD = pathlib.Path("deploy/grafana/messenger-connector.json")
RULES = pathlib.Path("deploy/prometheus/alerts.yaml")
# What Grafana puts in place of these.
VARIABLES = {"$__rate_interval": "5s", "$job": ".*", "$instance": ".*"}
# Longer than it is between two scrapes.
LAST_SCRAPE_S = 2


def panels() -> list[dict]:
    """The panels of the dashboard; rows are among them, and ask for nothing."""
    return json.loads(DASHBOARD.read_text())["panels"]


def legend(template: str, labels: dict[str, str]) -> str:
    """How Grafana would call a series."""
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), template).strip()


def ask(stack: Stack, start: float, end: float) -> tuple[dict[int, list[tuple[str, list]]], list[str]]:
    """The data of each panel by its id, each series with its legend; and what has none."""
    data, missing = {}, []
    for panel in panels():
        data[panel["id"]] = lines = []
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            series = stack.query(expression, start, end)
            if not any(math.isfinite(float(value)) for one in series for _, value in one["values"]):
                missing.append(f"{panel['title']}: {target['expr']}")
            for one in series:
                points = [(at - start, float(value)) for at, value in one["values"]]
                lines.append((legend(target["legendFormat"], one["metric"]), points))
    return data, missing


def unknown_metrics(names: set[str]) -> list[str]:
    """Names in the alert rules that no metric has."""
    rules = re.sub(r"by \([^)]*\)|{[^}]*}", "", RULES.read_text())
    return sorted(set(re.findall(r"\b(?:messenger|rpc|http)_\w+", rules)) - names)


def main() -> None:
    """Runs it all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20, help="how long the load lasts")
    parser.add_argument("--picture", type=pathlib.Path, help="where to draw the panels")
    options = parser.parse_args()
    with contextlib.ExitStack() as leave:
        stack = Stack(pathlib.Path(leave.enter_context(tempfile.TemporaryDirectory())), leave)
        start = time.time()
        stack.load(options.seconds)
        time.sleep(LAST_SCRAPE_S)
        data, missing = ask(stack, start, time.time())
        if missing:
            sys.exit("the dashboard asks for what does not exist:\n" + "\n".join(missing))
        if unknown := unknown_metrics(stack.names()):
            sys.exit(f"the alert rules name metrics that do not exist: {unknown}")
        print(f"dashboard: {sum(map(bool, data.values()))} panels have data")
        if options.picture:
            # Wants a library that checks do without.
            from picture import draw

            draw(panels(), data, options.picture)


main()
