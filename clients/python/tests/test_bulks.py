"""Every scenario of bulks, with the blocking client and with the one for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse, ParseDict

import messenger_connector as m
from messenger_connector import aio
from stack import SCENARIOS, Stack, check_error, connection

Scenario = dict[str, Any]

# A bulk that gets no further fails, and does not hang.
PATIENCE = 30.0


class Audience:
    """The source of a scenario, and what was taken from it."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.taken = 0
        self.yielded = 0
        self.most_ahead = 0

    def items(self) -> Iterator[m.BulkItem]:
        filler = "x" * self._scenario.get("filler_bytes", 0)
        templates = [json.dumps(item["item"]).replace("{filler}", filler) for item in self._scenario["items"]]
        for number in range(self._scenario["rounds"]):
            for template in templates:
                self.taken += 1
                self.most_ahead = max(self.most_ahead, self.taken - self.yielded)
                yield Parse(template.replace("{round}", str(number)), m.BulkItem())


def run_blocking(stack: Stack, scenario: Scenario, audience: Audience, results: list[m.ItemResult]) -> None:
    start = ParseDict(scenario["start"], m.BulkStart())
    with m.MessengerClient.connect(stack.address, **connection(scenario, stack)) as client:
        with contextlib.closing(client.send_bulk(start, audience.items(), reconnect_timeout=PATIENCE)) as bulk:
            for result in bulk:
                results.append(result)
                audience.yielded += 1
                if len(results) == scenario.get("cancel_after_results"):
                    break


def run_asyncio(stack: Stack, scenario: Scenario, audience: Audience, results: list[m.ItemResult]) -> None:
    async def run() -> None:
        start = ParseDict(scenario["start"], m.BulkStart())
        async with aio.MessengerClient.connect(stack.address, **connection(scenario, stack)) as client:
            async with contextlib.aclosing(
                client.send_bulk(start, audience.items(), reconnect_timeout=PATIENCE)
            ) as bulk:
                async for result in bulk:
                    results.append(result)
                    audience.yielded += 1
                    if len(results) == scenario.get("cancel_after_results"):
                        break

    asyncio.run(run())


Run = Callable[[Stack, Scenario, Audience, list[m.ItemResult]], None]


@pytest.mark.parametrize("run", [run_blocking, run_asyncio])
@pytest.mark.parametrize("scenario", SCENARIOS["bulks"], ids=lambda scenario: scenario["name"])
def test_bulks(scenario: Scenario, run: Run, tmp_path: Path) -> None:
    with Stack(scenario, tmp_path) as stack:
        audience, results = Audience(scenario), list[m.ItemResult]()
        restarts = restart_in_the_middle(stack, scenario)
        if "error" in scenario:
            with pytest.raises(m.MessengerError) as raised:
                run(stack, scenario, audience, results)
            check_error(raised.value, scenario["error"])
            assert raised.value.request_id == ""
            assert not results
        else:
            run(stack, scenario, audience, results)
        restarts()
        for thread in threading.enumerate():
            if thread.name == "bulk source":
                thread.join(timeout=5)
                assert not thread.is_alive(), "the source's thread ends with its bulk"
        state = stack.sandbox("state")
        assert state["duplicates"] == 0
        assert audience.most_ahead <= scenario.get("ahead_max", audience.most_ahead)
        if "cancel_after_results" in scenario:
            assert len(results) == scenario["cancel_after_results"]
            taken = audience.taken
            stack.wait_for_delivered(len(results))
            assert audience.taken == taken, "nobody reads the source any more"
        elif "error" not in scenario:
            check_results(scenario, results)
        if "delivered" in scenario:
            assert state["delivered"] == scenario["delivered"]
        else:
            kept = stack.sandbox("messages?limit=1000000")["messages"]
            delivered = {message["body"]["recipient"]["id"].split(".")[-1] for message in kept}
            assert {result.item_id for result in results if result.state == m.ITEM_STATE_SENT} <= delivered


def restart_in_the_middle(stack: Stack, scenario: Scenario) -> Callable[[], None]:
    """Begins to wait for the middle. What it returns waits for the end of that."""
    if "restart" not in scenario:
        return lambda: None

    def restart() -> None:
        stack.wait_for_delivered(scenario["restart"]["when_delivered"])
        stack.restart(scenario["restart"]["signal"])

    thread = threading.Thread(target=restart)
    thread.start()
    return thread.join


def check_results(scenario: Scenario, results: list[m.ItemResult]) -> None:
    """One result for every item, with its state and reason."""
    expected: Counter[str] = Counter()
    kinds: dict[str, dict[str, str]] = {}
    for number in range(scenario["rounds"]):
        for item in scenario["items"]:
            item_id = item["item"]["item_id"].replace("{round}", str(number))
            expected[item_id] += 1
            kinds[item_id] = item
    assert Counter(result.item_id for result in results) == expected
    others = 0
    for result in results:
        kind, state = kinds[result.item_id], m.ItemState.Name(result.state)
        if state == kind.get("or_state"):
            others += 1
            continue
        assert state == kind["state"], result
        if "reason" in kind:
            assert m.ErrorReason.Name(result.error.reason) == kind["reason"], result
    assert others <= scenario.get("or_state_max", 0)
