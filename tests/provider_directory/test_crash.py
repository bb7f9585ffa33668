"""What a crash leaves behind is finished, or found out; what a disk says is read from the disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.contract import acts
from tests.provider_directory.nas import KEY, PART, begun, content, directory, incoming
from uploaderd.errors import Corrupted, SessionGone
from uploaderd.model import Part
from uploaderd.providers.directory import Directory
from uploaderd.reader import OpenRecording


async def test_a_crash_between_name_and_tidying_up_is_finished(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    session = await nas.open(acts.spec_of(KEY, recording.size), PART)
    parts = await acts.put_rest(nas, session, recording)
    (target / "cam1").mkdir()
    os.link(incoming(target)[0], target / KEY)

    info = await acts.complete(nas, session, parts)

    assert info.token == session.spec.token
    assert incoming(target) == []
    assert (target / KEY).stat().st_nlink == 1


@pytest.mark.parametrize("at", [0, PART - 1, 2 * PART - 1], ids=["first byte", "in part 1", "in part 2"])
async def test_what_an_earlier_process_wrote_is_read_back(
    nas: Directory, target: Path, recording: OpenRecording, at: int
) -> None:
    session = await begun(nas, recording, 2)
    with incoming(target)[0].open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    later = await directory(target, expect_marker=True)
    parts = await acts.put_rest(later, session, recording, await later.parts(session))

    with pytest.raises(Corrupted):
        await acts.complete(later, session, parts)

    assert not (target / KEY).exists()
    assert incoming(target) == []
    with pytest.raises(SessionGone):
        await later.parts(session)
    await later.aclose()


async def test_a_torn_part_is_written_over(nas: Directory, target: Path, recording: OpenRecording) -> None:
    session = await begun(nas, recording, 1)
    with incoming(target)[0].open("ab") as file:
        file.write(b"half of the second part")
    part = await acts.put_part(nas, session, recording, PART)
    last = await acts.put_part(nas, session, recording, 2 * PART)
    first = Part(1, 0, await recording.body(0, PART).digest(), "", None)

    await acts.complete(nas, session, [first, part, last])

    assert (target / KEY).read_bytes() == content(recording)


async def test_bytes_that_nobody_acknowledged_are_not_completed(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    session = await nas.open(acts.spec_of(KEY, recording.size), PART)
    parts = await acts.put_rest(nas, session, recording)
    with incoming(target)[0].open("ab") as file:
        file.write(b"more")

    await acts.complete(nas, session, parts)

    assert (target / KEY).read_bytes() == content(recording)


async def test_a_session_that_became_shorter_is_not_completed(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    session = await begun(nas, recording, 2)
    parts = [Part(1, 0, await recording.body(0, 2 * PART).digest(), "", None)]
    os.truncate(incoming(target)[0], 10)

    with pytest.raises(Corrupted):
        await acts.complete(nas, session, parts)

    assert not (target / KEY).exists()


async def test_what_was_proven_and_then_dropped_is_not_proven(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    session = await nas.open(acts.spec_of(KEY, recording.size), PART)
    parts = await acts.put_rest(nas, session, recording)
    await acts.put_part(nas, session, recording, 0)
    with incoming(target)[0].open("ab") as file:
        file.write(bytes(recording.size - PART))

    with pytest.raises(Corrupted):
        await acts.complete(nas, session, parts)

    assert not (target / KEY).exists()


async def test_a_session_begun_again_starts_from_nothing(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    session = await begun(nas, recording, 2)

    again = await nas.open(session.spec, PART)

    assert list(await nas.parts(again)) == []
    assert len(incoming(target)) == 1


async def test_the_read_back_is_from_the_disk() -> None:
    """The kernel's own count of bytes fetched from storage (proc_pid_io(5)) shows it."""

    def fetched() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("read_bytes:")))

    # /var/tmp, because /tmp may be memory: that has nothing to read from.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root = Path(folder)
        (root / "target").mkdir()
        (root / "a.mp4").write_bytes(os.urandom(8 * 2**20))
        provider = await directory(root / "target")
        async with await OpenRecording.open(bytes(root), b"a.mp4") as recording:
            before = fetched()
            await acts.put(provider, acts.spec_of(KEY, recording.size), recording)
            written = fetched()
            assert written - before >= recording.size
            assert b"".join([window async for window in provider.read(KEY)]) == content(recording)
            assert fetched() - written >= recording.size
        await provider.aclose()


async def test_what_nobody_remembers_goes_in_the_end(nas: Directory, target: Path) -> None:
    await nas.probe()
    folder = target / ".uploaderd" / "incoming"
    day = 86_400
    sessions = {"a" * 32: 60, "b" * 32: 31 * day, "c" * 32: day, "d" * 32: 29 * day}
    ages = {**sessions, f"probe-{'0' * 16}": 60, f"probe-{'1' * 16}": 2 * 3600}
    now = folder.stat().st_mtime
    for name, age in {**ages, "a stranger's": 400 * day}.items():
        (folder / name).write_bytes(b"uploaderd")
        os.utime(folder / name, (now - age, now - age))
    os.link(folder / ("a" * 32), target / "a.mp4")
    os.link(folder / ("c" * 32), target / "c.mp4")
    await nas.probe()
    left = {path.name for path in folder.iterdir()}
    assert left == {"a" * 32, "d" * 32, f"probe-{'0' * 16}", "a stranger's"}
