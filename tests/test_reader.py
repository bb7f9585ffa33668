"""Recordings are opened safely, read exactly, and noticed when they change."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import google_crc32c
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uploaderd import beneath, checksum, reader
from uploaderd.beneath import FINGERPRINT_REACH, open_beneath
from uploaderd.errors import Fault, FileChanged, FileFault, FileVanished, SourceMissing
from uploaderd.model import FailureClass
from uploaderd.reader import WINDOW, OpenRecording

NAME = b"cam1/day/a.mp4"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source with one recording of two windows and a bit."""
    root = tmp_path / "source"
    (root / "cam1" / "day").mkdir(parents=True)
    (root / os.fsdecode(NAME)).write_bytes(os.urandom(2 * WINDOW + 1_000))
    return root


@pytest.fixture
def file(source: Path) -> Path:
    return source / os.fsdecode(NAME)


@pytest_asyncio.fixture
async def recording(source: Path) -> AsyncIterator[OpenRecording]:
    async with await OpenRecording.open(bytes(source), NAME) as recording:
        yield recording


async def _read(body: reader.Body) -> bytes:
    return b"".join([bytes(window) async for window in body])


@pytest.fixture
def nobody() -> Iterator[None]:
    """Somebody who may not do everything: root may."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(mine)


# --- opening -----------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", ["cam1", "cam1/day", "cam1/day/a.mp4"])
def test_no_component_may_be_a_symbolic_link(source: Path, tmp_path: Path, linked: str) -> None:
    (source / linked).rename(tmp_path / "elsewhere")
    (source / linked).symlink_to(tmp_path / "elsewhere")
    assert (source / os.fsdecode(NAME)).is_file(), "the link leads there"

    with pytest.raises(FileVanished):
        open_beneath(bytes(source), NAME)


def test_the_source_itself_may_be_a_symbolic_link(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)

    os.close(open_beneath(bytes(tmp_path / "link"), NAME))


@pytest.mark.parametrize(
    "path", [b"../a.mp4", b"cam1/../cam1/day/a.mp4", b"/etc/passwd", b"", b"cam1//a", b"./a"]
)
def test_paths_that_leave_the_source_are_refused(source: Path, path: bytes) -> None:
    (source.parent / "a.mp4").touch()

    with pytest.raises(FileFault) as caught:
        open_beneath(bytes(source), path)

    assert not isinstance(caught.value, FileVanished)


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "nothing", "file as folder"])
def test_what_is_no_regular_file_is_no_recording(
    file: Path, source: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And opening it waits for nobody: a FIFO has no writer here."""
    file.unlink()
    path = NAME
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "socket":
            monkeypatch.chdir(file.parent)  # its address has 108 bytes at most
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(file.name)
            assert stat.S_ISSOCK(file.stat().st_mode)
        case "file as folder":
            file.touch()
            path = NAME + b"/b.mp4"
    descriptors = len(os.listdir("/proc/self/fd"))

    with pytest.raises(FileVanished):
        open_beneath(bytes(source), path)

    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_missing_source_is_not_a_missing_recording(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing) as caught:
        open_beneath(bytes(tmp_path / "unmounted"), NAME)

    assert not isinstance(caught.value, FileFault)
    assert caught.value.failure is FailureClass.TRANSIENT


def test_a_file_that_may_not_be_read_is_its_own_trouble(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "a.mp4").touch(mode=0)
    tmp_path.chmod(0o755)
    root = os.open(tmp_path, os.O_PATH)
    request.getfixturevalue("nobody")

    with pytest.raises(FileFault) as caught:
        # By descriptor, because the tests' temporary folder is closed to others.
        open_beneath(b"/proc/self/fd/%d" % root, b"a.mp4")

    assert (caught.value.failure, caught.value.code) == (FailureClass.RECORDING, "EACCES")
    assert caught.value.hint
    os.close(root)


# --- reading -----------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(data=st.data())
def test_any_range_is_read_exactly_and_checksummed(file: Path, source: Path, data: st.DataObject) -> None:
    content = file.read_bytes()
    offset = data.draw(st.integers(0, len(content)))
    size = data.draw(st.integers(0, len(content) - offset))
    expected = content[offset : offset + size]

    async def read() -> tuple[bytes, reader.Body]:
        async with await OpenRecording.open(bytes(source), NAME) as recording:
            body = recording.body(offset, size, md5=True)
            return await _read(body), body

    got, body = asyncio.run(read())

    assert got == expected
    assert body.checksum.size == len(body) == size
    assert body.checksum.crc32c == google_crc32c.value(expected)
    assert body.checksum.crc64nvme == checksum.of(expected).crc64nvme
    assert body.checksum.md5 == hashlib.md5(expected).digest()


async def test_a_body_can_be_read_again(recording: OpenRecording, file: Path) -> None:
    body = recording.body(100, 2 * WINDOW)

    first, digest, second = await _read(body), await body.digest(), await _read(body)

    assert first == second == file.read_bytes()[100 : 100 + 2 * WINDOW]
    assert digest == body.checksum == checksum.of(first)


async def test_the_checksum_is_known_with_the_last_window_and_not_before(recording: OpenRecording) -> None:
    body = recording.body(0, recording.size)
    with pytest.raises(RuntimeError):
        _ = body.checksum
    taken = 0
    async for window in body:
        taken += len(window)
        if taken < recording.size:
            with pytest.raises(RuntimeError):
                _ = body.checksum
        else:
            assert body.checksum.size == recording.size


async def test_no_window_is_larger_than_said(recording: OpenRecording) -> None:
    assert {len(window) async for window in recording.body(0, recording.size)} == {WINDOW, 1_000}


async def test_pace_is_asked_before_each_window_that_is_sent(recording: OpenRecording) -> None:
    asked: list[int] = []

    async def pace(size: int) -> None:
        asked.append(size)

    body = recording.body(0, recording.size, pace=pace)
    await body.digest()
    assert asked == [], "looking costs no bandwidth"

    async for _ in body:
        assert sum(asked) <= recording.size

    assert asked == [WINDOW, WINDOW, 1_000]


async def test_others_get_their_turn_while_cached_windows_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(64 * WINDOW))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with await OpenRecording.open(bytes(tmp_path), b"a") as recording:
        task = asyncio.create_task(other())
        await _read(recording.body(0, recording.size))
        task.cancel()

    assert turns > 10


def _counting_threads(recording: OpenRecording) -> list[object]:
    visits: list[object] = []
    really = recording.on_thread

    async def counted(work: Callable[[], reader.T]) -> reader.T:
        visits.append(work)
        return await really(work)

    recording.on_thread = counted  # type: ignore[method-assign]
    return visits


async def test_cached_windows_need_no_thread(recording: OpenRecording, file: Path) -> None:
    content = file.read_bytes()
    visits = _counting_threads(recording)

    assert await _read(recording.body(0, recording.size)) == content

    assert visits == []


@pytest.mark.parametrize("refusal", [errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL])
async def test_windows_that_would_block_are_read_on_threads(
    recording: OpenRecording, file: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """EAGAIN: not in the page cache. The others: a file system that does not know RWF_NOWAIT."""
    asked = 0

    def preadv(fd: int, buffers: object, offset: int, flags: int = 0) -> int:
        nonlocal asked
        asked += 1
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "preadv", preadv)
    visits = _counting_threads(recording)

    body = recording.body(0, recording.size)
    assert await _read(body) == file.read_bytes()

    assert body.checksum == checksum.of(file.read_bytes())
    assert len(visits) == 3
    assert asked == (3 if refusal == errno.EAGAIN else 1), "what is not known is not asked again"


@pytest.mark.parametrize("where", ["preadv", "pread"])
async def test_a_failing_disk_is_waited_for(
    recording: OpenRecording, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def failing(*args: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, where, failing)
    recording._nowait = where == "preadv"

    with pytest.raises(Fault) as caught:
        await _read(recording.body(0, recording.size))

    assert (caught.value.failure, caught.value.code) == (FailureClass.TRANSIENT, "EIO")


# --- changes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("nowait", [True, False])
async def test_a_file_cut_short_while_it_is_read(recording: OpenRecording, file: Path, nowait: bool) -> None:
    recording._nowait = nowait
    windows = aiter(recording.body(0, recording.size))
    await anext(windows)
    os.truncate(file, WINDOW + 10)

    with pytest.raises(FileChanged) as caught:
        await anext(windows)

    assert caught.value.code == "truncated"


async def test_an_untouched_file_is_still_there(recording: OpenRecording) -> None:
    assert await recording.look_again()


def _append(file: Path) -> None:
    with file.open("ab") as writer:
        writer.write(b"more")


def _rewrite(file: Path) -> None:
    with file.open("r+b") as writer:
        writer.write(b"other")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def _replace(file: Path) -> None:
    """The same content, size and mtime: it is another file all the same."""
    times = file.stat()
    other = file.with_suffix(".new")
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize(
    ("change", "code"), [(_append, "changed"), (_rewrite, "changed"), (_replace, "replaced")]
)
async def test_a_change_is_noticed(
    recording: OpenRecording, file: Path, change: Callable[[Path], None], code: str
) -> None:
    change(file)

    with pytest.raises(FileChanged) as caught:
        await recording.look_again()

    assert caught.value.code == code


def _unlink(file: Path) -> None:
    file.unlink()


def _move(file: Path) -> None:
    file.rename(file.parent.parent / "moved.mp4")


def _move_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("other-day"))


def _folder_became_a_file(file: Path) -> None:
    _move_folder(file)
    file.parent.touch()


@pytest.mark.parametrize("loss", [_unlink, _move, _move_folder, _folder_became_a_file])
async def test_a_file_that_lost_its_name_is_read_to_its_end(
    recording: OpenRecording, file: Path, loss: Callable[[Path], None]
) -> None:
    content = file.read_bytes()
    windows = aiter(recording.body(0, recording.size))
    first = await anext(windows)
    loss(file)

    rest = b"".join([bytes(window) async for window in windows])

    assert bytes(first) + rest == content
    has_a_name = loss is not _unlink  # moved, or its mount went away: it is not gone
    assert await recording.look_again() is has_a_name


# --- closing -----------------------------------------------------------------------------------


async def test_close_waits_for_reads_and_can_be_repeated(source: Path) -> None:
    recording = await OpenRecording.open(bytes(source), NAME)
    fd = recording.fileno()
    reading, done = threading.Event(), threading.Event()

    def slow() -> int:
        reading.set()
        done.wait()
        return len(os.pread(fd, 10, 0))

    task = asyncio.create_task(recording.on_thread(slow))
    await asyncio.to_thread(reading.wait)
    task.cancel()
    closing = asyncio.create_task(recording.close())
    await asyncio.wait([closing], timeout=0.05)
    assert not closing.done()
    os.fstat(fd)

    done.set()
    await closing
    await recording.close()

    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# --- fingerprint -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, FINGERPRINT_REACH, FINGERPRINT_REACH + 1, 32 * 1024])
def test_the_fingerprint_of_a_small_file_covers_all_of_it(tmp_path: Path, size: int) -> None:
    content = bytearray(os.urandom(size))
    seen = set()
    for at in [None, 0, size // 2, size - 1]:
        changed = bytearray(content)
        if at is not None:
            changed[at] ^= 1
        path = tmp_path / "a"
        path.write_bytes(changed)
        seen.add((bytes(changed), _fingerprint(path)))

    assert len({print_ for _, print_ in seen}) == len({content for content, _ in seen})


def test_the_fingerprint_covers_head_tail_and_size(tmp_path: Path) -> None:
    content = bytearray(200_000)
    paths = {}
    for name, at in {"same": None, "head": 0, "tail": len(content) - 1}.items():
        changed = bytearray(content)
        if at is not None:
            changed[at] = 1
        paths[name] = tmp_path / name
        paths[name].write_bytes(changed)
    paths["longer"] = tmp_path / "longer"
    paths["longer"].write_bytes(content + b"\0")

    assert len({_fingerprint(path) for path in paths.values()}) == 4
    assert len(_fingerprint(paths["same"])) == 16


def _fingerprint(path: Path) -> bytes:
    with path.open("rb") as file:
        return beneath.fingerprint(file.fileno(), os.fstat(file.fileno()).st_size)


@pytest.mark.parametrize("size", [6, reader.WINDOW, reader.WINDOW + 1, reader.HELD])
async def test_what_was_looked_at_before_it_is_sent_is_what_is_sent(source: Path, size: int) -> None:
    """A small file is read once: a change in between cannot mix in."""
    before, after = b"b" * size, b"a" * size
    (source / "small.mp4").write_bytes(before)
    told: list[int] = []

    async def pace(size: int) -> None:
        told.append(size)

    async with await OpenRecording.open(os.fsencode(source), b"small.mp4") as recording:
        body = recording.body(0, size, pace=pace)
        content = await body.digest()
        (source / "small.mp4").write_bytes(after)
        assert b"".join([bytes(window) async for window in body]) == before
        assert (sum(told), max(told), body.checksum) == (size, min(size, reader.WINDOW), content)
        # Sent once more, it is what is there by then, and its checksum says so.
        assert b"".join([bytes(window) async for window in body]) == after
        assert body.checksum != content
        slow = recording.body(0, size, window=4 if size == 6 else reader.WINDOW // 2)
        await slow.digest()
        assert max([len(window) async for window in slow]) == (4 if size == 6 else reader.WINDOW // 2)


async def test_more_than_that_is_read_again_and_not_kept(source: Path) -> None:
    size = reader.HELD + 1
    (source / "large.mp4").write_bytes(b"b" * size)
    async with await OpenRecording.open(os.fsencode(source), b"large.mp4") as recording:
        body = recording.body(0, size)
        content = await body.digest()
        (source / "large.mp4").write_bytes(b"a" * size)
        assert b"".join([bytes(window) async for window in body]) == b"a" * size
        assert body.checksum != content
