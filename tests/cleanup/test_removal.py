"""What goes, when, and what is on record of it; and what stays for a reason of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cleanup.conftest import Yard
from uploaderd.errors import LedgerFull
from uploaderd.ledger import intake, queue, removal
from uploaderd.ledger.chain import History
from uploaderd.ledger.passage import Ripe, Young
from uploaderd.ledger.writer import Transaction
from uploaderd.model import FinishedBy, Milliseconds

pytestmark = pytest.mark.at("directory")

DAY_MS = 86_400_000


async def test_a_safe_file_goes_when_its_time_is_up_and_not_before(yard: Yard) -> None:
    recording = await yard.safe(content=b"of a day ago")
    async with yard.cleaning(keep_for="24h"):
        removed = await yard.event("removed", recording)
    row = await yard.row(recording)
    assert yard.left() == []
    assert (row.state, row.local) == ("safe", "removed")
    assert row.safe_at is not None
    assert DAY_MS <= removed["at"] - row.safe_at < 2 * DAY_MS
    assert await yard.kinds(recording) == ["removing", "removed"]
    (copy,) = removed["detail"]["copies"]
    assert (copy["provider"], copy["key"], copy["how"]) == ("tested", "cams/a.mp4", "same ETag")
    found = await yard.rig.place.vendor.get("cams/a.mp4")
    assert found is not None
    assert found.content == b"of a day ago"


async def test_what_becomes_due_while_the_cleaner_asks_is_not_forgotten(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await yard.safe()
    ask = removal.due

    def due(*args: Any) -> list[removal.Due]:
        monkeypatch.undo()
        answer = ask(*args)
        yard.rig.clock.leap(25 * 3_600)
        return answer

    monkeypatch.setattr(removal, "due", due)
    async with yard.cleaning(keep_for="24h"):
        await yard.event("removed", recording)
    assert yard.left() == []


async def test_keep_keeps(yard: Yard) -> None:
    recording = await yard.safe()
    cleaner = yard.cleaner(policy="keep", keep_for="0s")
    await cleaner.settle()
    await asyncio.wait_for(cleaner.run(), 20)
    assert yard.left() == ["a.mp4"]
    assert await yard.kinds(recording) == []


async def test_what_becomes_safe_later_wakes_the_cleaner(yard: Yard) -> None:
    async with yard.cleaning(keep_for="0s") as cleaner:
        for name in ("a.mp4", "b.mp4"):
            recording = await yard.safe(name)
            cleaner.wake()
            await yard.event("removed", recording)
    assert yard.left() == []


@pytest.mark.parametrize("off", [-56 * 365 * DAY_MS / 1000, -20 * DAY_MS / 1000])
async def test_a_clock_that_is_set_right_makes_no_file_old(yard: Yard, off: float) -> None:
    """As on a machine that starts in 1970, or when it was last shut down, and hears the time later."""
    clock = yard.rig.clock
    clock.wrong_by = off
    recording = await yard.safe()
    safe, turns = clock.monotonic(), yard.rig.ledger.turns
    clock.wrong_by = 0.0
    async with yard.cleaning(keep_for="24h"):
        await yard.event("removed", recording)
    assert clock.monotonic() - safe > DAY_MS / 1000 - 1
    assert yard.rig.ledger.turns < turns + 100, "it is asked again when it is due, not all the time"


async def test_many_are_removed_a_batch_at_a_time(yard: Yard) -> None:
    recordings = [await yard.safe(f"{number}.mp4") for number in range(150)]
    async with yard.cleaning(keep_for="0s"):
        for recording in recordings:
            await yard.event("removed", recording)
    assert yard.left() == []


@pytest.mark.parametrize("how", ["opened before", "opened while it is aside"])
async def test_a_file_that_somebody_writes_to_stays(yard: Yard, how: str) -> None:
    recording = await yard.safe()
    path = yard.rig.folder / "a.mp4"
    if how == "opened before":
        writer = path.open("r+b")
    else:
        # By another name, since nobody knows the one that it has while it is aside.
        other = yard.rig.folder.parent / "link"
        writer = None

        async def after_intent(name: str) -> None:
            nonlocal writer
            if name == "begin":
                os.link(path, other)
                writer = other.open("r+b")

        yard.rig.ledger.hook = after_intent
    async with yard.cleaning(keep_for="0s"):
        kept = await yard.event("kept", recording)
        assert kept["detail"]["why"] == "writer"
        assert path.read_bytes() == b"a recording"
        assert writer is not None
        again = asyncio.Event()

        async def kept_again(name: str) -> None:
            if name == "kept":
                again.set()

        yard.rig.ledger.hook = kept_again
        await asyncio.wait_for(again.wait(), 20)
        yard.rig.ledger.hook = None
        writer.close()
        await yard.event("removed", recording)
    kinds = await yard.kinds(recording)
    assert kinds.count("kept") == 1, "a refusal is told once, however often it is looked at"


async def test_a_file_that_was_changed_under_its_old_time_stays(yard: Yard) -> None:
    content = bytes(100_000)
    recording = await yard.safe(content=content)
    path = yard.rig.folder / "a.mp4"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(50_000)  # neither in the head nor in the tail
        file.write(b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    await _as_if_written_long_ago(yard, recording, path)
    async with yard.cleaning(keep_for="0s"):
        kept = await yard.event("kept", recording)
    assert kept["detail"]["why"] == "changed"
    assert yard.left() == ["a.mp4"]
    assert yard.looked_at == [b"a.mp4"]


async def test_a_file_that_was_only_touched_goes(yard: Yard) -> None:
    recording = await yard.safe(content=bytes(100_000))
    path = yard.rig.folder / "a.mp4"
    await _as_if_written_long_ago(yard, recording, path)
    path.chmod(0o600)
    async with yard.cleaning(keep_for="0s"):
        await yard.event("removed", recording)


async def _as_if_written_long_ago(yard: Yard, recording: int, path: Path) -> None:
    """A time of ten minutes ago, in the file and in the ledger: it was sent as such."""
    status = path.stat()
    mtime_ns = status.st_mtime_ns - 600 * 10**9
    os.utime(path, ns=(status.st_atime_ns, mtime_ns))
    await yard.rig.ledger.run(
        lambda tx: tx.conn.execute(
            "UPDATE recordings SET mtime_ns = ?, found_at = found_at - 1000 WHERE id = ?",
            (mtime_ns, recording),
        )
    )


async def test_another_file_at_the_path_stays(yard: Yard) -> None:
    recording = await yard.safe()
    new = yard.rig.folder / "new"
    new.write_bytes(b"a recordinG")
    new.rename(yard.rig.folder / "a.mp4")
    async with yard.cleaning(keep_for="0s"):
        kept = await yard.event("kept", recording)
    assert kept["detail"]["why"] == "changed"
    assert (yard.rig.folder / "a.mp4").read_bytes() == b"a recordinG"
    assert yard.looked_at == [b"a.mp4"]


async def test_quiet_time_alone_is_not_enough_unless_told_so(yard: Yard) -> None:
    recording = await yard.safe(finished_by=FinishedBy.QUIET)
    async with yard.cleaning(keep_for="0s"):
        kept = await yard.event("kept", recording)
    assert kept["detail"]["why"] == "quiet"
    assert "without_lease" in kept["detail"]["reason"]
    assert yard.left() == ["a.mp4"]
    async with yard.cleaning(keep_for="0s", without_lease=True):
        removed = await yard.event("removed", recording)
    assert removed["at"] - kept["at"] < DAY_MS, "the new rule holds at once"


async def test_a_copy_on_the_same_device_permits_nothing_unless_told_so(yard: Yard) -> None:
    recording = await yard.safe()
    target = Path(yard.rig.settings["path"])
    assert target.stat().st_dev == yard.rig.folder.stat().st_dev
    async with yard.cleaning(keep_for="0s", near=target):
        kept = await yard.event("kept", recording)
    assert kept["detail"]["why"] == "same-device"
    assert "same_device_counts" in kept["detail"]["reason"]
    assert yard.left() == ["a.mp4"]
    async with yard.cleaning(keep_for="0s"):
        removed = await yard.event("removed", recording)
    assert removed["at"] - kept["at"] < DAY_MS, "the new rule holds at once"


async def test_a_provider_that_is_not_open_yet_is_waited_for(yard: Yard) -> None:
    recording = await yard.safe()
    provider, yard.pool.provider = yard.pool.provider, None
    put_off = asyncio.Event()

    async def notice(name: str) -> None:
        if name == "put_off":
            put_off.set()
            yard.pool.provider = provider

    yard.rig.ledger.hook = notice
    async with yard.cleaning(keep_for="0s"):
        await asyncio.wait_for(put_off.wait(), 20)
        await yard.event("removed", recording)
    assert await yard.kinds(recording) == ["removing", "removed"], "its provider's trouble is not its own"


async def test_what_somebody_else_removed_is_on_record(yard: Yard) -> None:
    recording = await yard.safe("cam1/a.mp4")
    (yard.rig.folder / "cam1" / "a.mp4").unlink()
    async with yard.cleaning(keep_for="0s"):
        await yard.event("unlinked", recording)
    row = await yard.row(recording)
    assert (row.state, row.local) == ("safe", "removed")


async def test_a_missing_source_is_not_a_removed_file(yard: Yard) -> None:
    recording = await yard.safe()
    away = yard.rig.folder.with_name("away")
    yard.rig.folder.rename(away)
    waited = asyncio.Event()
    sleep = yard.rig.clock.sleep

    async def seen(seconds: float) -> None:
        waited.set()
        await sleep(seconds)

    yard.rig.clock.sleep = seen  # type: ignore[method-assign]
    async with yard.cleaning(keep_for="0s"):
        await asyncio.wait_for(waited.wait(), 20)
        assert await yard.kinds(recording) == []
        away.rename(yard.rig.folder)
        await yard.event("removed", recording)


async def test_a_symbolic_link_in_place_of_a_folder_leads_nowhere(yard: Yard) -> None:
    recording = await yard.safe("cam1/a.mp4")
    elsewhere = yard.rig.folder.parent / "elsewhere"
    (yard.rig.folder / "cam1").rename(elsewhere)
    (yard.rig.folder / "cam1").symlink_to(elsewhere)
    async with yard.cleaning(keep_for="0s"):
        await yard.event("unlinked", recording)
    assert (elsewhere / "a.mp4").read_bytes() == b"a recording"


async def test_a_folder_that_was_moved_while_its_file_is_aside_keeps_it(yard: Yard) -> None:
    recording = await yard.safe("cam1/a.mp4")
    elsewhere = yard.rig.folder.parent / "elsewhere"
    moving = yard.provider

    class Mover:
        """The provider, at whose second question somebody moves the folder away."""

        def __init__(self) -> None:
            self.asked = 0

        def __getattr__(self, name: str) -> object:
            return getattr(moving, name)

        async def stat(self, key: str) -> object:
            self.asked += 1
            if self.asked == 2:
                (yard.rig.folder / "cam1").rename(elsewhere)
            return await moving.stat(key)

    async with yard.cleaning(keep_for="0s", provider=Mover()):
        kept = await yard.event("kept", recording)
    assert kept["detail"]["why"] == "moved"
    assert (elsewhere / "a.mp4").read_bytes() == b"a recording"


async def test_empty_folders_go_if_told_so_and_no_others(yard: Yard) -> None:
    deep = await yard.safe("2026/11/20/a.mp4")
    beside = await yard.safe("2026/12/b.mp4")
    (yard.rig.folder / "2026" / "12" / "notes.txt").write_text("not a recording")
    other = await yard.safe("other/c.mp4")
    async with yard.cleaning(
        keep_for="0s", remove_empty_dirs=True, spare=(yard.rig.folder, yard.rig.folder / "other")
    ):
        told = await yard.event("removed", deep)
        await yard.event("removed", beside)
        await yard.event("removed", other)
    assert told["detail"]["empty_folders"] == 2
    assert yard.left() == ["2026/12/notes.txt"]
    assert sorted(path.name for path in yard.rig.folder.iterdir()) == ["2026", "other"]
    assert sorted(path.name for path in (yard.rig.folder / "2026").iterdir()) == ["12"]


async def test_the_marker_goes_with_its_file_and_no_other_does(yard: Yard) -> None:
    recordings = [await yard.safe(name) for name in ("cam1/a.mp4", "cam2/b.mp4")]
    for name in ("cam1/a.mp4.done", "cam2/b.mp4.done", "cam2/c.mp4.done"):
        (yard.rig.folder / name).touch()
    async with yard.cleaning(
        keep_for="0s", finished="marker", remove_empty_dirs=True, spare=(yard.rig.folder,)
    ):
        for recording in recordings:
            await yard.event("removed", recording)
    assert yard.left() == ["cam2/c.mp4.done"]
    assert not (yard.rig.folder / "cam1").exists(), "nothing was left in it"


async def test_folders_stay_unless_told_so(yard: Yard) -> None:
    recording = await yard.safe("cam1/a.mp4")
    async with yard.cleaning(keep_for="0s"):
        await yard.event("removed", recording)
    assert (yard.rig.folder / "cam1").is_dir()


async def test_the_root_stays(yard: Yard) -> None:
    recording = await yard.safe("a.mp4")
    async with yard.cleaning(keep_for="0s", remove_empty_dirs=True):
        await yard.event("removed", recording)
    assert yard.rig.folder.is_dir()


async def test_a_copy_that_was_not_required_is_given_up_and_named(yard: Yard) -> None:
    rig = yard.rig
    other = await rig.ledger.run(intake.register_provider, "optional", "directory", "file:///elsewhere")
    recording = await yard.safe()
    await rig.ledger.run(
        lambda tx: tx.conn.execute(
            "INSERT INTO uploads (recording_id, provider_id, required, key, token)"
            " VALUES (?, ?, 0, 'k', x'00112233445566778899aabbccddeeff')",
            (recording, other),
        )
    )

    async def nobody_begins_to_send_it(name: str) -> None:
        if name == "begin":
            claimed = await rig.ledger.run(queue.claim, other, 1)
            assert claimed == [], "while it is aside it would seem lost"
            begun.set()

    begun = asyncio.Event()
    rig.ledger.hook = nobody_begins_to_send_it
    async with yard.cleaning(keep_for="0s"):
        removed = await yard.event("removed", recording)
    assert begun.is_set()
    assert removed["detail"]["never_sent_to"] == ["optional"]
    row = await yard.row(recording)
    assert (row.state, row.uploads["optional"].state) == ("safe", "failed")
    assert row.uploads["optional"].error_code == "removed"


async def test_a_file_that_is_being_sent_somewhere_waits(yard: Yard) -> None:
    rig = yard.rig
    other = await rig.ledger.run(intake.register_provider, "optional", "directory", "file:///elsewhere")
    recording = await yard.safe()
    await rig.ledger.run(
        lambda tx: tx.conn.execute(
            "INSERT INTO uploads (recording_id, provider_id, required, key, token, state)"
            " VALUES (?, ?, 0, 'k', x'00112233445566778899aabbccddeeff', 'uploading')",
            (recording, other),
        )
    )
    put_off = asyncio.Event()

    async def notice(name: str) -> None:
        if name == "put_off" and not put_off.is_set():
            put_off.set()
            assert yard.left() == ["a.mp4"]
            await rig.ledger.run(
                lambda tx: tx.conn.execute(
                    "UPDATE uploads SET state = 'failed' WHERE provider_id = ?", (other,)
                )
            )

    rig.ledger.hook = notice
    async with yard.cleaning(keep_for="0s"):
        await asyncio.wait_for(put_off.wait(), 20)
        await yard.event("removed", recording)


async def test_a_stop_while_it_is_aside_gives_it_its_name_back(yard: Yard) -> None:
    recording = await yard.safe()
    asked = yard.provider
    aside = asyncio.Event()

    class Slow:
        """The provider, which answers the second question never."""

        def __init__(self) -> None:
            self.asked = 0

        def __getattr__(self, name: str) -> object:
            return getattr(asked, name)

        async def stat(self, key: str) -> object:
            self.asked += 1
            if self.asked == 2:
                aside.set()
                await asyncio.Event().wait()
            return await asked.stat(key)

    async with yard.cleaning(keep_for="0s", provider=Slow()):
        await asyncio.wait_for(aside.wait(), 20)
        (name,) = yard.left()
        assert name.startswith(".uploaderd-")
    assert yard.left() == ["a.mp4"]
    assert await yard.kinds(recording) == ["removing", "put-back"]
    async with yard.cleaning(keep_for="0s"):
        await yard.event("removed", recording)


async def test_another_file_that_took_the_path_is_not_replaced(yard: Yard) -> None:
    recording = await yard.safe()
    asked = yard.provider
    path = yard.rig.folder / "a.mp4"

    class Replacing:
        """The provider; at the second question the recorder makes a new file, and the copy is gone."""

        def __init__(self) -> None:
            self.asked = 0

        def __getattr__(self, name: str) -> object:
            return getattr(asked, name)

        async def stat(self, key: str) -> object:
            self.asked += 1
            if self.asked == 2:
                path.write_bytes(b"the next one")
                await asked.delete(key)  # type: ignore[attr-defined]
            return await asked.stat(key)

    async with yard.cleaning(keep_for="0s", provider=Replacing()):
        await yard.event("kept", recording)
    assert path.read_bytes() == b"the next one"
    (beside,) = [name for name in yard.left() if name != "a.mp4"]
    assert beside.startswith("a.kept-")
    assert beside.endswith(".mp4")
    assert (yard.rig.folder / beside).read_bytes() == b"a recording"
    assert os.fsencode(beside) in yard.looked_at


async def test_the_ledger_finds_what_is_due_by_index(yard: Yard) -> None:
    await yard.safe()

    def plans(conn: sqlite3.Connection) -> list[str]:
        seen: list[str] = []
        conn.set_trace_callback(seen.append)
        tx = Transaction(conn, History(conn), Milliseconds(1))
        ripe = Ripe(Milliseconds(10), 5, (Young(2, 10, 2),))
        removal.due(tx, 1, ripe, 64)
        removal.next_due(tx, 1, ripe)
        conn.set_trace_callback(None)
        told = []
        for statement in seen:
            if "recordings" in statement.partition("WHERE")[0]:
                steps = conn.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                told.append("; ".join(step[3] for step in steps))
        return told

    told = await yard.rig.ledger.run(lambda tx: plans(tx.conn))
    assert len(told) == 6
    for plan in told:
        assert "USING INDEX recordings_kept" in plan or "USING INDEX recordings_removable" in plan, plan
        assert "TEMP B-TREE" not in plan, plan


async def test_a_ledger_that_takes_nothing_stops_cleanup_before_the_file_is_touched(yard: Yard) -> None:
    recording = await yard.safe()
    refused = asyncio.Event()
    in_need = yard.rig.ledger.run_in_need

    async def full(work: object, *args: object, **kwargs: object) -> object:
        if getattr(work, "__name__", "") == "begin" and not refused.is_set():
            refused.set()
            raise LedgerFull("full")
        return await in_need(work, *args, **kwargs)  # type: ignore[arg-type]

    yard.rig.ledger.run_in_need = full  # type: ignore[method-assign, assignment]
    async with yard.cleaning(keep_for="0s"):
        await asyncio.wait_for(refused.wait(), 20)
        assert yard.left() == ["a.mp4"]
        await yard.event("removed", recording)
