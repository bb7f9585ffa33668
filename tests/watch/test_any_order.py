"""Whatever happens to the files, and whatever is heard of it: each finished one ends up queued, once."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from hypothesis import given, settings
from hypothesis import strategies as st
from watchfiles import Change

from tests.clocks import FakeClock
from tests.watch.conftest import Site
from uploaderd.hints import Hints
from uploaderd.watcher import Watcher

names = st.sampled_from(["a", "b", "sub/c"])
bodies = st.sampled_from([b"", b"one", b"two", b"x" * 100_000, b"x" * 50_000 + b"y" + b"x" * 49_999])
acts = st.one_of(
    st.tuples(st.just("write"), names, bodies),
    st.tuples(st.just("begin"), names, bodies),
    st.tuples(st.just("close"), names),
    st.tuples(st.just("touch"), names),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("replace"), names, bodies),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("hear")),  # the events so far arrive
    st.tuples(st.just("overflow")),  # they are lost
    st.tuples(st.just("tick")),  # a second goes by
)


class Tree:
    """Files whose times are the fake clock's; some are held open by their recorder."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        self.root = root
        self.clock = clock
        self.open: dict[int, BinaryIO] = {}
        self.events: Hints = set()
        (root / "sub").mkdir()

    def act(self, kind: str, *args: object) -> None:
        path = self.root / str(args[0])
        before = path.exists()
        self._do(kind, path, args)
        change = Change.deleted if before and not path.exists() else Change.modified
        self.events.add((change if before else Change.added, str(path)))
        if kind == "rename":
            self.events.add((Change.added, str(self.root / str(args[1]))))

    def _do(self, kind: str, path: Path, args: tuple[object, ...]) -> None:
        match kind, args:
            case "write" | "begin", (_, bytes(body)):
                file = path.open("wb")
                file.write(body)
                file.flush()
                if kind == "begin":
                    self._keep(file)
                else:
                    file.close()
                self._stamp(path)
            case "replace", (_, bytes(body)):
                fresh = self.root / "fresh.tmp"
                fresh.write_bytes(body)
                self._stamp(fresh)
                fresh.replace(path)
            case "close", _:
                if path.exists() and (held := self.open.pop(path.stat().st_ino, None)) is not None:
                    held.close()
            case "touch", _:
                if path.exists():
                    self._stamp(path)
            case "delete", _:
                path.unlink(missing_ok=True)
            case "rename", (_, str(to)):
                if path.exists():
                    path.replace(self.root / to)

    def _keep(self, file: BinaryIO) -> None:
        if (before := self.open.pop(os.fstat(file.fileno()).st_ino, None)) is not None:
            before.close()
        self.open[os.fstat(file.fileno()).st_ino] = file

    def _stamp(self, path: Path) -> None:
        self.clock.wall += 1
        os.utime(path, ns=(self.clock.wall * 1_000_000,) * 2)

    def written(self) -> set[tuple[bytes, int]]:
        """What a recorder holds open, with its time."""
        return {
            (os.fsencode(path.relative_to(self.root)), path.stat().st_mtime_ns)
            for path in self.root.rglob("*")
            if path.is_file() and path.stat().st_ino in self.open
        }

    def finished(self) -> dict[bytes, int]:
        """What no recorder holds open, with its size."""
        return {
            os.fsencode(path.relative_to(self.root)): path.stat().st_size
            for path in self.root.rglob("*")
            if path.is_file() and path.stat().st_ino not in self.open
        }


async def look_at_candidates(watcher: Watcher, clock: FakeClock) -> None:
    """Once, as the timer does."""
    settling = watcher._settling
    await settling._look_again(settling.candidates.take_due(clock.monotonic(), 100))


async def play(site: Site, clock: FakeClock, script: list[tuple[object, ...]], *, restarted: bool) -> None:
    await site.open({"cameras": {"quiet_for": "2s", "empty": "upload"}})
    tree = Tree(site.root, clock)
    watcher: Watcher = site.watcher()
    try:
        for kind, *args in script:
            match kind:
                case "sweep":
                    clock.advance(1)
                    await watcher.sweep()
                case "hear":
                    await watcher._heard(tree.events)
                    tree.events = set()
                case "overflow":
                    tree.events = set()
                case "tick":
                    clock.advance(1)
                    await look_at_candidates(watcher, clock)
                case _:
                    tree.act(str(kind), *args)
        for _ in range(3):
            clock.advance(10)
            if restarted:  # what is not on record is not known
                watcher = site.watcher()
            await watcher.sweep()
            await look_at_candidates(watcher, clock)
        there = tree.finished()
        rows = site.rows("SELECT path, size, state FROM recordings WHERE past = 0")
        assert {path: size for path, size, _ in rows if path in there} == there
        assert {state for path, _, state in rows if path in there} <= {"waiting"}
        early = set(site.rows("SELECT path, mtime_ns FROM recordings")) & tree.written()
        assert not early, "what is written must not be queued"
        queued = site.rows(
            "SELECT u.recording_id FROM uploads u JOIN recordings r ON r.id = u.recording_id"
            " WHERE u.state = 'queued' AND r.past <> 0"
        )
        assert queued == [], "what is gone from its path must not be sent from there"
        per_path = Counter(path for path, _, _ in rows)
        assert all(count == 1 for count in per_path.values())
    finally:
        for file in tree.open.values():
            file.close()
        await site.ledger.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(acts, max_size=16), st.booleans())
def test_any_order_of_events(script: list[tuple[object, ...]], restarted: bool) -> None:
    tmp = Path(tempfile.mkdtemp(prefix="any-order-"))
    try:
        site = Site(tmp)
        clock = FakeClock()
        site.clock = clock
        asyncio.run(play(site, clock, script, restarted=restarted))
    finally:
        shutil.rmtree(tmp)
