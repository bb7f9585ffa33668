"""`kill -9` at random moments while 50 recordings go to three clouds and a directory."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.contract.place import Place
from tests.end_to_end.box import Box, until
from tests.end_to_end.daemon import DaemonProcess
from tests.end_to_end.places import content_of
from tests.kill.figures import Record
from tests.strict import Fault, Kind, StrictServer
from uploaderd.ledger.chain import broken_at

KILLS: Final = int(os.environ.get("TESTS_KILLS", "14"))
SEED: Final = int(os.environ.get("TESTS_SEED", "1"))
RECORDINGS: Final = 50
REQUESTS: Final = 380
"""With bodies, that the clouds need for them."""
KIB: Final = 1024
MIB: Final = 1024 * KIB

LANES: Final = {"max_uploads": 2 if KILLS <= 50 else 1, "max_parts": 2}
"""Fewer at once for many kills: the work must not be done before all of them came."""

PART_SIZES: Final = {"s3": 5 * MIB, "azure": MIB, "gcs": MIB, "directory": MIB}
TAIL: Final = 256 * KIB
"""What the ledger has charged and a GCS session does not hold yet: it goes with the completion."""

BODIES: Final = {
    "s3": ("UploadPart", "PutObject"),
    "azure": ("PutBlock", "PutBlob"),
    "gcs": ("ResumableChunk", "InsertObject"),
}
OTHERS: Final = {
    "s3": ("HeadObject", "CreateMultipartUpload", "ListParts", "CompleteMultipartUpload"),
    "azure": ("GetBlobProperties", "GetBlockList", "PutBlockList"),
    "gcs": ("GetObject", "OpenResumable", "QueryResumable"),
}


def sizes(chance: random.Random) -> list[int]:
    """Of 50 recordings: some of several parts everywhere, most of one."""
    return [
        *(chance.randrange(10 * MIB, 12 * MIB) for _ in range(8)),
        *(chance.randrange(MIB, 4 * MIB) for _ in range(14)),
        *(chance.randrange(1, 300 * KIB) for _ in range(RECORDINGS - 22)),
    ]


@dataclass
class InFlight:
    """What the ledger has charged and has no receipt for, at each kill: bytes by provider.

    Nothing beyond it may be sent again.
    """

    bytes: Counter[str] = field(default_factory=Counter)

    def count(self, box: Box) -> None:
        """Look at the ledger of a daemon that was just killed."""
        with box.reading() as conn:
            if conn is None:
                return
            rows = conn.execute(
                "SELECT p.name, u.state, u.bytes_sent - u.bytes_before, u.resumed_from,"
                " (SELECT coalesce(sum(size), 0) FROM parts WHERE upload_id = u.id)"
                " FROM uploads u JOIN providers p ON p.id = u.provider_id"
            ).fetchall()
        here: Counter[str] = Counter()
        for provider, state, sent, resumed, receipts in rows:
            if state in ("uploading", "completing"):
                # Killed before it went on with a session, it has sent nothing and has old receipts.
                here[provider] += max(0, sent - max(0, receipts - resumed))
        for provider, flying in here.items():
            lanes = LANES["max_uploads"] * LANES["max_parts"]
            assert 0 <= flying <= lanes * PART_SIZES[provider], (provider, flying)
        self.bytes.update(here)


class Killer:
    """Chooses a moment, waits for it, kills. The moments are drawn from the seed; what they hit is chance."""

    def __init__(self, endpoint: StrictServer, chance: random.Random, pace: int) -> None:
        self._endpoint = endpoint
        self._chance = chance
        self._pace = pace
        self.hit: Counter[str] = Counter()

    async def strike(self, daemon: DaemonProcess, done: Callable[[], bool]) -> bool:
        """Kill the daemon at the next moment; False if it had nothing left to do."""
        chance, cloud = self._chance, self._chance.choice(list(BODIES))
        goal = self._taken() + 1 + chance.randrange(self._pace)
        operation, fault = "between", None
        match chance.choice(("between", "body", "reply")):
            case "body":
                operation = chance.choice(BODIES[cloud])
                fault = self._fault(Kind.STALL_BODY, cloud, operation)
                fault.after_bytes = chance.randrange(100 * KIB)
            case "reply":
                operation = chance.choice((*BODIES[cloud], *OTHERS[cloud]))
                fault = self._fault(Kind.HOLD_REPLY, cloud, operation)
        if fault is not None:
            self._endpoint.faults.add(fault)
            goal += 160 // KILLS  # a call that comes seldom is not waited for longer than this
        looks = 0
        while not (fault is not None and fault.fired):
            looks += 1
            if daemon.has_ended or (looks % 200 == 0 and done()):
                return False
            if self._taken() >= goal:
                operation = "between"
                break
            await asyncio.sleep(0.001)
        # Not to wait for anything: to fall between two requests, where the ledger is written.
        await asyncio.sleep(chance.random() * min(0.02, 0.4 / KILLS))
        daemon.kill()
        if fault is not None:
            self._endpoint.faults.remove(fault)
        self.hit[operation] += 1
        return True

    def _fault(self, kind: Kind, cloud: str, operation: str) -> Fault:
        # Not a probe's; of one call only the body says the key.
        key = "*" if operation == "InsertObject" else "hall/*"
        skip = self._chance.randrange(1 + self._pace // 4)
        return Fault(kind, protocol=cloud, operation=operation, key=key, skip=skip)

    def _taken(self) -> int:
        """Bodies of recordings that the endpoint took so far."""
        return sum(
            entry.status < 400 and entry.operation in BODIES[entry.protocol] and entry.received > 1
            for entry in self._endpoint.log.entries()
        )


@pytest.mark.timeout(60 + 10 * KILLS)
async def test_killed_at_random_moments_nothing_is_lost_or_sent_twice(
    box: Box, places: dict[str, Place], endpoint: StrictServer, record: Record
) -> None:
    chance = random.Random(SEED)
    folder = box.source(quiet_for="10ms", key="{source}/{path}")
    contents: dict[str, bytes] = {}
    for number, size in enumerate(sizes(chance)):
        contents[f"{number:02}.mp4"] = content_of(size, number)
        (folder / f"{number:02}.mp4").write_bytes(contents[f"{number:02}.mp4"])
        os.utime(folder / f"{number:02}.mp4", (1_790_000_000 + number, 1_790_000_000 + number))
    box.send_to(places)
    for name, part_size in PART_SIZES.items():
        box.providers[name] |= LANES | {"part_size": f"{part_size}B"}

    endpoint.call(lambda: keep_versions(endpoint, places))
    killer = Killer(endpoint, chance, pace=max(1, REQUESTS * 5 // 4 // KILLS))
    flying = InFlight()
    kills = 0
    while kills < KILLS:
        with box.run() as daemon:
            if not await killer.strike(daemon, lambda: all_safe(box)):
                break
        kills += 1
        flying.count(box)
    with box.run() as daemon:
        await daemon.says("provider opened")
        rows = await box.until_safe(RECORDINGS, within=120)
        await box.until(lambda: not leftovers(box), within=120)
        await settled(places)

    assert kills >= KILLS * 9 // 10, f"the work was done before it could be killed: {killer.hit}"
    assert sum(killer.hit.values()) == kills
    assert {path: row.state for path, row in rows.items()} == dict.fromkeys(contents, "safe")
    duplicates = await assert_all_there_once(places, contents, box)
    resent = {name: sent_bytes(endpoint, name) - sum(map(len, contents.values())) for name in BODIES}
    charged = {
        name: sum(row.uploads[name].bytes_sent - row.size for row in rows.values()) for name in PART_SIZES
    }
    for name, extra in resent.items():
        assert 0 <= extra <= flying.bytes[name], (name, extra, flying.bytes)
    for name, extra in charged.items():
        tails = TAIL * kills * LANES["max_uploads"] if name == "gcs" else 0
        assert 0 <= extra <= flying.bytes[name] + tails, (name, extra, flying.bytes)
    idle = assert_nothing_half_done(endpoint, places)
    with box.reading() as conn:
        assert conn is not None
        assert broken_at(conn, "attempts") is None
        assert broken_at(conn, "events") is None
        assert conn.execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert endpoint.crashes == []

    record("kills", kills)
    record("in the middle of a call", kills - killer.hit["between"])
    record("lost", 0)
    record("corrupt", 0)
    record("duplicates", duplicates)
    record("bytes", sum(map(len, contents.values())) * len(PART_SIZES))
    record("sent again", sum(resent.values()) + charged["directory"])
    record("in flight at the kills", sum(flying.bytes.values()))
    record("GCS sessions of unanswered openings, empty", idle)


def keep_versions(endpoint: StrictServer, places: dict[str, Place]) -> None:
    """With versions kept, a second completion of the same upload shows."""
    endpoint.s3.buckets[places["s3"].settings["bucket"]].versioning = True
    endpoint.azure.container(places["azure"].settings["container"]).versioning = True


def all_safe(box: Box) -> bool:
    return sum(row.state == "safe" for row in box.recordings().values()) == RECORDINGS


def leftovers(box: Box) -> int:
    with box.reading() as conn:
        assert conn is not None
        return int(conn.execute("SELECT count(*) FROM leftovers").fetchone()[0])


async def settled(places: dict[str, Place]) -> None:
    """No half-done copy is left in the directory; a tiny file of a probe that was killed goes in an hour."""
    incoming = Path(places["directory"].settings["path"]) / ".uploaderd" / "incoming"

    def half_done() -> list[str]:
        return [file.name for file in incoming.iterdir() if not file.name.startswith("probe-")]

    await until(lambda: not half_done(), otherwise=half_done)


async def assert_all_there_once(places: dict[str, Place], contents: dict[str, bytes], box: Box) -> int:
    """Every content at every provider, whole, with the ledger's token; how many objects there are beyond."""
    rows = box.recordings()
    beyond = 0
    for name, place in places.items():
        expected = {row.uploads[name].key: path for path, row in rows.items()}
        assert set(expected) == {f"hall/{path}" for path in contents}, "no key was changed"
        beyond += len(await place.vendor.keys() - set(expected))
        for key, path in expected.items():
            found = await place.vendor.get(key)
            assert found is not None, (name, key)
            assert found.content == contents[path], (name, key)
            assert found.token == rows[path].uploads[name].token, (name, key)
    assert beyond == 0
    return beyond


def assert_nothing_half_done(endpoint: StrictServer, places: dict[str, Place]) -> int:
    """No second version, no open session; how many empty GCS sessions nobody could know of."""
    s3, gcs = places["s3"].settings["bucket"], places["gcs"].settings["bucket"]
    container = endpoint.azure.container(places["azure"].settings["container"])
    versions = [len(each) for each in endpoint.s3.buckets[s3].versions.values()]
    versions += [len(each) for each in container.versions.values()]
    assert versions == [1] * (2 * RECORDINGS)
    assert endpoint.s3.open_uploads(s3) == []
    # The probe's one block of one byte stays until it expires: Azure cannot discard it.
    assert {key for key, blocks in container.uncommitted.items() if blocks} <= {".uploaderd-probe"}
    sessions = endpoint.gcs.open_sessions(gcs)
    assert all(session.held == 0 for session in sessions)
    return len(sessions)


def sent_bytes(endpoint: StrictServer, cloud: str) -> int:
    """Bytes of recordings that the endpoint received for a cloud, as it counted them."""
    entries = [e for e in endpoint.log.entries(protocol=cloud) if e.operation in BODIES[cloud]]
    return sum(entry.received for entry in entries)
