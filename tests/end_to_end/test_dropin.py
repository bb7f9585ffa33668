"""The daemon in the place of a recorder's own upload: its variables, its folder, its keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.contract.place import Place
from tests.end_to_end.box import ROOT, UPLOADERD, Box, until
from tests.end_to_end.daemon import DaemonProcess
from tests.end_to_end.places import assert_whole
from tests.strict import StrictServer
from uploaderd.ledger import read
from uploaderd.ledger.reading import connect_readonly


async def test_the_recorders_variables_alone_make_it_work(
    box: Box, endpoint: StrictServer, places: Mapping[str, Place], tmp_path: Path
) -> None:
    account = endpoint.s3.account
    file = tmp_path / ".env"
    file.write_text(
        f"AWS_RECORDING_STORAGE_BUCKET_NAME={places['s3'].settings['bucket']}\n"
        f"AWS_ACCESS_KEY_ID={account.access_key}\nAWS_SECRET_ACCESS_KEY='{account.secret_key}'\n"
        f"AWS_ENDPOINT_URL={endpoint.url}\nDATABASE_URL=postgres://somebody-elses\n"
    )
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    (recordings / "debug_screen_recording_1.mp4").write_bytes(b"debug")
    (recordings / "meeting.mp4").write_bytes(b"meeting")
    env = {
        "STATE_DIRECTORY": str(tmp_path),
        "RUNTIME_DIRECTORY": str(box.sockets),
        "UPLOADERD_SOURCES__RECORDINGS__QUIET_FOR": "300ms",
        "UPLOADERD_SOURCES__DEBUG_RECORDINGS__QUIET_FOR": "300ms",
    }
    command = [*UPLOADERD, "run", "--env-file", str(file)]
    environment = {**os.environ, **env, "PYTHONPATH": str(ROOT)}
    with DaemonProcess(command, tmp_path / "log", tmp_path, environment) as daemon:
        await daemon.says("recording safe")
        await until(lambda: len(safe(tmp_path)) == 2)
        first, second, *_ = daemon.lines()
    assert safe(tmp_path) == {
        "debug_screen_recording_1.mp4": "debug_recordings",
        "meeting.mp4": "recordings",
    }
    await assert_whole(places["s3"], "meeting.mp4", b"meeting")
    await assert_whole(places["s3"], "debug_screen_recording_1.mp4", b"debug")
    assert first["event"] == "uploaderd starts"
    assert (second["event"], list(second["on"])) == ("providers", ["s3"])
    assert second["off"] == {
        "azure": "STORAGE_UPLOAD_MODE is not set",
        "gcs": "neither STORAGE_UPLOAD_MODE nor GCP_STORAGE_USE_GCS wants it",
        "tavus": "TAVUS_ENABLE_RECORDING is not true",
    }


def safe(folder: Path) -> dict[str, str]:
    conn = connect_readonly(folder / "ledger.db")
    try:
        return {os.fsdecode(row.path): row.source for row in read.recordings(conn, state="safe")}
    finally:
        conn.close()


async def test_what_is_sent_on_request_alone_waits_to_be_asked_for(
    box: Box, places: Mapping[str, Place]
) -> None:
    """Beside a provider that is sent everything at once; a drain does not wait for what nobody asked for."""
    folder = box.source()
    box.daemon = {"on_stop": "drain"}
    box.send_to({name: places[name] for name in ("gcs", "directory")})
    box.providers["gcs"]["auto_upload"] = False
    for name in ("a.ts", "b.ts", "c.ts"):
        (folder / name).write_bytes(name.encode())
    with box.run() as daemon:
        await box.until(lambda: [u.state for u in box.uploads("directory").values()] == ["verified"] * 3)
        said = await box.uploaderd("ensure", "b.ts")
        assert (said.code, said.out) == (0, "safe: 1 recording\n"), said.err
        assert {name: row.state for name, row in box.uploads("gcs").items()} == {
            "a.ts": "queued",
            "b.ts": "verified",
            "c.ts": "queued",
        }
        why = await box.uploaderd("why", "a.ts")
        assert "`uploaderd ensure` asks for it" in why.out
        assert why.out.endswith("next: nothing, until somebody asks: `uploaderd ensure` sends it\n")
        daemon.terminate()
        assert await daemon.ended() == 75
        (end,) = [line for line in daemon.lines() if "not everything is safe" in line["event"]]
        assert (
            f"{folder}/a.ts: not yet at gcs (only what `uploaderd ensure` asks for is sent there)"
            in end["left"]
        )
    assert await places["gcs"].vendor.get(box.uploads("gcs")["a.ts"].key) is None
    said = await box.uploaderd("ensure")  # without a daemon, by itself
    assert (said.code, said.out) == (0, "safe: 2 recordings\n"), said.err
    assert all(row.state == "safe" for row in box.recordings().values())
