"""What the kernel refuses, and a disk that hangs."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract import acts
from tests.provider_directory.nas import KEY, PART, begun, incoming
from uploaderd.errors import CannotLook, Fault, FileFault
from uploaderd.model import FailureClass
from uploaderd.providers.directory import Directory
from uploaderd.providers.directory_faults import fault_of
from uploaderd.reader import OpenRecording


@pytest.mark.parametrize(
    ("number", "failure", "recognised"),
    [
        (errno.ENOSPC, FailureClass.PROVIDER, True),
        (errno.EDQUOT, FailureClass.PROVIDER, True),
        (errno.EROFS, FailureClass.PROVIDER, True),
        (errno.EACCES, FailureClass.PROVIDER, True),
        (errno.ENOTCONN, FailureClass.PROVIDER, True),
        (errno.ESTALE, FailureClass.PROVIDER, True),
        (errno.EFBIG, FailureClass.RECORDING, True),
        (errno.EIO, FailureClass.TRANSIENT, True),
        (errno.EHOSTDOWN, FailureClass.TRANSIENT, True),
        (errno.EMFILE, FailureClass.TRANSIENT, True),
        (errno.EXFULL, FailureClass.TRANSIENT, False),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else str(value),
)
def test_error_numbers_are_classified(number: int, failure: FailureClass, recognised: bool) -> None:
    fault = fault_of(OSError(number, os.strerror(number)), "writing", "/mnt/nas/a.mp4")

    assert (fault.failure, fault.recognised, fault.code) == (failure, recognised, errno.errorcode[number])
    assert "/mnt/nas/a.mp4" in fault.message
    assert failure is not FailureClass.PROVIDER or fault.hint


@pytest.fixture
def small_files_only(recording: OpenRecording) -> Iterator[int]:
    """A file system that holds files of 100,000 bytes at most; the kernel cuts the write that meets it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files_only")
async def test_a_write_cut_short_is_a_fault_and_leaves_nothing(
    nas: Directory, target: Path, recording: OpenRecording
) -> None:
    with pytest.raises(FileFault) as caught:
        await acts.put(nas, acts.spec_of(KEY, recording.size), recording)

    assert caught.value.code == "EFBIG"
    assert incoming(target) == []
    assert not (target / KEY).exists()


async def test_a_cancelled_caller_does_not_wait_for_a_disk_that_hangs(
    nas: Directory, recording: OpenRecording
) -> None:
    session = await begun(nas, recording, 1)
    hanging = threading.Event()
    descriptors = len(os.listdir("/proc/self/fd"))
    threads = nas._threads._max_workers
    for _ in range(threads):
        nas._threads.submit(hanging.wait)
    sending = asyncio.create_task(acts.put_part(nas, session, recording, PART))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sending, 0.2)

    hanging.set()
    part = await acts.put_part(nas, session, recording, PART)
    assert part.size == PART
    assert len(await nas.parts(session)) == 1
    await asyncio.gather(
        *(asyncio.to_thread(nas._threads.submit(lambda: None).result) for _ in range(threads))
    )
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_a_gap_is_refused_and_the_caller_asks_again(nas: Directory, recording: OpenRecording) -> None:
    session = await begun(nas, recording, 1)

    with pytest.raises(Fault) as caught:
        await acts.put_part(nas, session, recording, 2 * PART)

    assert (caught.value.failure, caught.value.code) == (FailureClass.TRANSIENT, "gap")
    assert [part.size for part in await nas.parts(session)] == [PART]


async def test_modes_are_the_umasks(nas: Directory, target: Path, recording: OpenRecording) -> None:
    old = os.umask(0o022)
    try:
        await acts.put(nas, acts.spec_of(KEY, recording.size), recording)
    finally:
        os.umask(old)

    assert (target / KEY).stat().st_mode & 0o777 == 0o644
    assert (target / "cam1").stat().st_mode & 0o777 == 0o755


@pytest_asyncio.fixture
async def nas_of_another(nas: Directory, recording: OpenRecording) -> AsyncIterator[Directory]:
    """A target that the daemon's user may not enter."""
    await acts.put(nas, acts.spec_of(KEY, recording.size), recording)
    nas._target.path.chmod(0)
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65_534)  # root may do everything
    yield nas
    os.seteuid(mine)
    nas._target.path.chmod(0o755)


async def test_a_target_that_may_not_be_entered(nas_of_another: Directory, recording: OpenRecording) -> None:
    with pytest.raises(Fault) as caught:
        await acts.put(nas_of_another, acts.spec_of("b.mp4", recording.size), recording)
    assert (caught.value.failure, caught.value.code) == (FailureClass.PROVIDER, "EACCES")
    assert "user" in caught.value.hint

    with pytest.raises(CannotLook):
        await nas_of_another.stat(KEY)
