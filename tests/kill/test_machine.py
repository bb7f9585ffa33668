"""A state machine over ledger and worker: whatever happens in whatever order, the guarantees hold.

Hypothesis chooses among: a recorder that writes, changes, renames and removes files; strangers who take
keys; a provider that fails in each way at each call, or is down; and a process that works until nothing is
left, or until it dies at a step. After each of these the invariants are looked at; in the end everything is
mended, and what must come of it is looked at too.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.kill import figures
from tests.kill.cloud import LIMITS, PART_SIZE, Call, Client, Cloud, Failing
from tests.kill.death import KilledError, Life, MortalLedger
from tests.pool.conftest import LeapingClock
from uploaderd import beneath, finished
from uploaderd.attempts import Surroundings
from uploaderd.config import Config
from uploaderd.intake import Finished, Intake, IntakeProvider
from uploaderd.ledger import connect_readonly, intake, read, work
from uploaderd.ledger.chain import broken_at
from uploaderd.model import Claim, FinishedBy, FoundBy, OnConflict, OnNewVersion
from uploaderd.provider import Provider
from uploaderd.wishes import Wishes
from uploaderd.worker import Pool

T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("TESTS_EXAMPLES", "10"))
PATHS: Final = st.sampled_from(["a.mp4", "b.mp4", "c/d.mp4"])
CONTENTS: Final = st.binary(min_size=1, max_size=3 * PART_SIZE + 1)
LONG: Final = st.binary(min_size=2 * PART_SIZE + 1, max_size=3 * PART_SIZE)
FAILURES: Final = st.sampled_from(
    [
        *((call, failure) for call in get_args(Call) for failure in ("lost request", "lost reply")),
        *((call, "session gone") for call in ("parts", "put_part", "complete")),
        *((call, "damaged") for call in ("put_part", "complete", "put")),
        *((call, "refused") for call in ("open", "put", "complete")),
        # The moments that other uploaders get wrong, more often than the rest.
        *(2 * [(call, "lost reply") for call in ("open", "put", "complete")]),
    ]
)
PATIENCE: Final = 400
"""Steps after which a process that finds no end is stopped: a provider that is down is probed for ever."""

seen: Counter[str] = Counter()


def _nothing() -> None:
    """Happens."""


class Guarantees(RuleBasedStateMachine):
    """One recorder, one source, one provider; processes come and go."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.source = self.folder / "recordings"
        self.source.mkdir()
        self.cloud = Cloud()
        self.clock = LeapingClock()
        self.ever: set[bytes] = set()
        self.queued: dict[int, bytes] = {}
        self.strangers: dict[str, bytes] = {}
        self.loop = asyncio.new_event_loop()
        seen["examples"] += 1

    def teardown(self) -> None:
        try:
            self.in_the_end()
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)

    # --- what happens outside -------------------------------------------------------------------

    @initialize(path=PATHS, content=CONTENTS)
    def first(self, path: str, content: bytes) -> None:
        self.write(path, content)

    @rule(path=PATHS, content=CONTENTS)
    def write(self, path: str, content: bytes) -> None:
        """A new file, or another content in the old one's place."""
        file = self.source / path
        file.parent.mkdir(exist_ok=True)
        before = file.stat().st_mtime_ns if file.exists() else 0
        file.write_bytes(content)
        # The kernel's clock ticks slower than this test writes; a recorder does not write that quickly.
        if file.stat().st_mtime_ns <= before:
            os.utime(file, ns=(before + 10_000_000, before + 10_000_000))
        self.ever.add(content)

    @rule(path=PATHS, new=PATHS)
    def rename(self, path: str, new: str) -> None:
        if (self.source / path).exists() and not (self.source / new).exists():
            (self.source / new).parent.mkdir(exist_ok=True)
            (self.source / path).rename(self.source / new)

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        (self.source / path).unlink(missing_ok=True)

    @rule(path=PATHS, content=CONTENTS)
    def a_stranger_takes_the_key(self, path: str, content: bytes) -> None:
        if self.cloud.put_stranger(path, content):
            self.strangers[path] = content
            seen["strangers"] += 1

    @rule(failing=st.lists(FAILURES, min_size=1, max_size=4))
    def it_will_fail(self, failing: list[tuple[Call, Failing]]) -> None:
        for call, failure in failing:
            self.cloud.failing.setdefault(call, []).append(failure)
        seen["failures"] += len(failing)

    @rule()
    def it_is_down(self) -> None:
        self.cloud.down = True

    @precondition(lambda self: self.cloud.down)
    @rule()
    def it_is_up(self) -> None:
        self.cloud.down = False

    @rule()
    def sessions_expire(self) -> None:
        self.cloud.sessions.clear()

    # --- processes ------------------------------------------------------------------------------

    @rule(fuse=st.integers(1, 50))
    def a_process_dies(self, fuse: int) -> None:
        self._process(fuse)
        seen["deaths"] += 1

    @rule()
    def a_process_works(self) -> None:
        self._process(None)

    @rule(step=st.integers(10, 40), path=PATHS, content=LONG, other=LONG)
    def a_file_changes_while_it_is_sent(self, step: int, path: str, content: bytes, other: bytes) -> None:
        self.write(path, content)
        self._process(None, step, lambda: self.write(path, other))

    @rule(step=st.integers(10, 50), path=PATHS)
    def a_file_is_unlinked_while_a_process_works(self, step: int, path: str) -> None:
        self._process(None, step, lambda: self.unlink(path))

    def _process(self, fuse: int | None, step: int = 0, event: Callable[[], None] = _nothing) -> bool:
        """Start, sweep, work until nothing is left or the fuse is burnt; whether nothing is left.

        At `step` the `event` happens.
        """
        return self._run(self._life(Life(fuse, step, event)))

    async def _life(self, life: Life) -> bool:
        before = asyncio.all_tasks()
        ledger = MortalLedger(self.folder / "ledger.db", self.clock.now, life)
        await ledger.open()
        try:
            await ledger.run(work.recover)
            pool, taking, provider = await self._wired(ledger, life)
            for _ in range(3):  # what a sweep finds out may be what the pool waits for
                await self._sweep(taking)
                working = asyncio.ensure_future(pool.run())
                done = await self._until_settled(ledger, provider, working, life)
                pool.stop()
                await working
                if not done:
                    return False
                pool, taking, provider = await self._wired(ledger, life)
        except KilledError:
            return False
        finally:
            life.over = True
            left = asyncio.all_tasks() - before
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await ledger.close()
        return True

    async def _wired(self, ledger: MortalLedger, life: Life) -> tuple[Pool, Intake, int]:
        config = Config.model_validate(
            {
                "sources": {"cams": {"path": self.source, "key": "{path}"}},
                "providers": {"cloud": {"type": "directory", "path": self.folder / "unused"}},
            }
        )
        source = await ledger.run(intake.register_source, "cams", os.fsencode(self.source))
        provider = await ledger.run(intake.register_provider, "cloud", "directory", "memory")
        taking = Intake(
            ledger,
            config,
            {"cams": source},
            {"cloud": IntakeProvider(provider, LIMITS)},
            wake=lambda: pool.wake(),  # noqa: PLW0108 -- it is made below
            host="host",
            environ={},
        )

        async def opened() -> Provider:
            return Client(self.cloud, life)

        async def resweep(_: str) -> None:
            await self._sweep(taking)

        def heard(_: Claim, __: Sequence[str]) -> None:
            """Nobody listens."""

        offered: set[asyncio.Task[None]] = set()

        def offer(_: str, path: bytes) -> None:
            offered.add(asyncio.ensure_future(self._sweep(taking)))

        pool = Pool(
            "cloud",
            provider,
            opened,
            ledger,
            self.clock,
            Surroundings(
                wishes=_wishes, resweep=resweep, offer=offer, safe=heard, chance=random.Random(7).random
            ),
            max_uploads=2,
            max_parts=2,
        )
        return pool, taking, provider

    async def _sweep(self, taking: Intake) -> None:
        """Offer every file that is there, as finished."""
        found, contents = [], {}
        for file in sorted(self.source.rglob("*.mp4")):
            path = os.fsencode(file.relative_to(self.source))
            fd = beneath.open_beneath(os.fsencode(self.source), path)
            try:
                status = os.fstat(fd)
                identity = beneath.identity_of(status, beneath.fingerprint(fd, status.st_size))
            finally:
                os.close(fd)
            contents[path] = file.read_bytes()
            found.append(Finished(path, identity, FoundBy.SWEEP, FinishedBy.LEASE, self.clock.now()))
        try:
            await taking.offer("cams", found)
        finally:
            with closing(self._ledger()) as conn:
                for row, path in conn.execute("SELECT id, path FROM recordings WHERE past = 0"):
                    self.queued.setdefault(row, contents.get(bytes(path), b""))

    async def _until_settled(
        self, ledger: MortalLedger, provider: int, working: asyncio.Future[None], life: Life
    ) -> bool:
        for _ in range(PATIENCE):
            if working.done() or life.over:
                await working
                raise KilledError
            with closing(self._ledger()) as conn:
                waiting = conn.execute("SELECT count(*) FROM recordings WHERE state = 'waiting'").fetchone()
                left = conn.execute("SELECT count(*) FROM leftovers").fetchone()
            if waiting == left == (0,):
                return True
            await asyncio.sleep(0.001)  # between two looks at the ledger
        return False

    # --- what must be true ------------------------------------------------------------------------

    @invariant()
    def safe_is_safe(self) -> None:
        """What is verified is there: this content, whole, under our token."""
        if not self._begun():
            return
        with closing(self._ledger()) as conn:
            for row in read.recordings(conn):
                for upload in row.uploads.values():
                    if upload.state != "verified":
                        continue
                    stored = self.cloud.objects[upload.key]
                    assert stored.content == self.queued[row.row]
                    assert upload.proof_kind
                    if not upload.proof_kind.startswith("adopted"):
                        assert stored.token == upload.token

    @invariant()
    def nothing_torn_and_nothing_twice(self) -> None:
        """Every object is some content that a file had, whole; no token is at two keys or was two objects."""
        ours = [stored for stored in self.cloud.objects.values() if stored.token is not None]
        assert all(stored.content in self.ever for stored in ours)
        assert len({stored.token for stored in ours}) == len(ours)
        assert all(times == 1 for times in self.cloud.completions.values())

    @invariant()
    def strangers_objects_stay(self) -> None:
        for key, content in self.strangers.items():
            assert (self.cloud.objects[key].content, self.cloud.objects[key].token) == (content, None)

    @invariant()
    def no_session_is_forgotten(self) -> None:
        """What is open there is on record here: by its handle, or as an opening without an answer."""
        if not self.cloud.sessions:
            return
        with closing(self._ledger()) as conn:
            known = {
                row[0]
                for row in conn.execute("SELECT session FROM uploads UNION SELECT session FROM leftovers")
            }
            unanswered = {
                row[0]
                for row in conn.execute(
                    "SELECT key FROM uploads WHERE intent_at IS NOT NULL"
                    " UNION SELECT key FROM leftovers WHERE session = ''"
                )
            }
        for handle, opened in self.cloud.sessions.items():
            assert handle in known or opened.spec.key in unanswered

    @invariant()
    def the_ledger_is_whole(self) -> None:
        if not self._begun():
            return
        with closing(self._ledger()) as conn:
            assert broken_at(conn, "attempts") is None
            assert broken_at(conn, "events") is None
            counted = conn.execute(
                "SELECT state, count(*), sum(size) FROM recordings GROUP BY 1 ORDER BY 1"
            ).fetchall()
            kept = conn.execute(
                "SELECT state, sum(count), sum(bytes) FROM recording_totals GROUP BY 1"
                " HAVING sum(count) > 0 ORDER BY 1"
            ).fetchall()
            assert counted == kept

    def in_the_end(self) -> None:
        """Everything is mended: what is there is safe, and nothing is left over."""
        self.cloud.heal()
        assert self._process(None), self._state()
        assert self.cloud.sessions == {}
        with closing(self._ledger()) as conn:
            # Not the newest at a path: an older one may have been renamed over it.
            here = [row for row in read.recordings(conn) if row.local == "present"]
        rows = {os.fsdecode(row.path): row for row in reversed(here)}
        for file in self.source.rglob("*.mp4"):
            row = rows[str(file.relative_to(self.source))]
            assert row.state == "safe", row
            (upload,) = row.uploads.values()
            assert self.cloud.objects[upload.key].content == file.read_bytes()
        seen["recordings"] += len(rows)
        self.safe_is_safe()
        self.nothing_torn_and_nothing_twice()

    # --- how ---------------------------------------------------------------------------------------

    def _begun(self) -> bool:
        return (self.folder / "ledger.db").exists()

    def _ledger(self) -> sqlite3.Connection:
        return connect_readonly(self.folder / "ledger.db")

    def _state(self) -> object:
        with closing(self._ledger()) as conn:
            return [
                conn.execute(f"SELECT * FROM {table}").fetchall()
                for table in ("recordings", "uploads", "leftovers")
            ]

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 60))


def _wishes(claim: Claim, rate: float | None) -> Wishes:
    return Wishes(
        content_type="video/mp4",
        metadata={},
        on_conflict=OnConflict.SUFFIX,
        on_new_version=OnNewVersion.KEEP_BOTH,
        part_size=PART_SIZE,
        rate=None,
        writer_has=finished.writer_has,
    )


Guarantees.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    derandomize="TESTS_EXAMPLES" not in os.environ,
    # Tokens are random and threads take turns: what failed may not fail again when it is made smaller.
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


TestGuarantees = Guarantees.TestCase


def test_figures(record: figures.Record) -> None:
    """What the machine above did."""
    for name, value in sorted(seen.items()):
        record(name, value)
