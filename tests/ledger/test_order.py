"""What goes first among all that waits, and that finding it costs no look at the rest."""

from __future__ import annotations

import pytest

from tests.ledger.conftest import Bench
from uploaderd.ledger import Transaction, intake, queue
from uploaderd.ledger.queue import IN_TURN, Turns
from uploaderd.model import Order


async def queued(bench: Bench, *sizes: int, source: int | None = None) -> None:
    recordings = [bench.recording(size=size) for size in sizes]
    if source is not None:
        for recording in recordings:
            object.__setattr__(recording, "source_id", source)
    await bench.ledger.run(intake.enqueue, recordings)


async def taken(bench: Bench, turns: Turns, limit: int = 99) -> list[tuple[str, int]]:
    claims = await bench.ledger.run(queue.claim, bench.providers["nas"], limit, turns=turns)
    return [(claim.source, claim.identity.size) for claim in claims]


@pytest.mark.parametrize(
    ("order", "sizes"),
    [("oldest", [5, 9, 2, 7, 2]), ("newest", [2, 7, 2, 9, 5]), ("smallest", [2, 2, 5, 7, 9])],
)
async def test_the_order_of_work(bench: Bench, order: Order, sizes: list[int]) -> None:
    await queued(bench, 5, 9, 2)
    other = await bench.ledger.run(intake.register_source, "other", b"/srv/other")
    await queued(bench, 7, source=other)
    await queued(bench, 2)
    first = await taken(bench, Turns(order), limit=2)
    assert [size for _, size in [*first, *await taken(bench, Turns(order))]] == sizes


async def test_the_source_of_a_higher_priority_goes_first_whatever_the_order(bench: Bench) -> None:
    doors = await bench.ledger.run(intake.register_source, "doors", b"/srv/doors")
    gone = await bench.ledger.run(intake.register_source, "gone", b"/srv/gone")
    await queued(bench, 1, 2)
    await queued(bench, 3, source=gone)
    await queued(bench, 8, 4, source=doors)
    turns = Turns("smallest", {doors: 1, bench.source: 0})
    assert await taken(bench, turns) == [
        ("doors", 4),
        ("doors", 8),
        ("cameras", 1),
        ("cameras", 2),
        ("gone", 3),
    ]


@pytest.mark.parametrize("turns", [IN_TURN, Turns("newest"), Turns("smallest")], ids=lambda one: one.order)
async def test_the_next_is_found_by_an_index(bench: Bench, turns: Turns) -> None:
    """The queue of a provider that was down for a week is long."""
    await queued(bench, 1)
    asked: list[str] = []

    def claim(tx: Transaction) -> None:
        tx.conn.set_trace_callback(asked.append)
        queue.claim(tx, bench.providers["nas"], 1, turns=turns)
        tx.conn.set_trace_callback(None)
        for statement in [one for one in asked if one.startswith("SELECT id,")]:
            plan = " ".join(row[3] for row in tx.conn.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert "USING" in plan
            assert "INDEX" in plan
            assert "TEMP B-TREE" not in plan, plan
            assert "SCAN" not in plan, plan

    await bench.ledger.run(claim)
    assert asked
