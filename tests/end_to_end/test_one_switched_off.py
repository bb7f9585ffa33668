"""One provider's trouble is its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.box import Box
from tests.end_to_end.places import arranged, assert_whole, content_of
from tests.strict import Fault, Kind, StrictServer

FILES = 40
SIZE = 1024 * 1024
OTHERS = ("azure", "gcs", "directory")

Record = Callable[[str, object], None]


def _write(folder: Path, what: str) -> dict[str, bytes]:
    contents = {f"{what}-{number:02}.ts": content_of(SIZE, (what, number)) for number in range(FILES)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return contents


@pytest.mark.parametrize("trouble", ["refuses", "never answers"])
async def test_the_others_lose_no_speed_and_it_catches_up_by_itself(
    trouble: str,
    box: Box,
    strict: StrictServer,
    endpoint: StrictServer,
    tmp_path: Path,
    record_property: Record,
) -> None:
    servers = {"s3-strict": endpoint, "azure-strict": strict, "gcs-strict": strict, "directory": None}
    folder = box.source()

    async def seconds_until_the_others_have(names: Mapping[str, bytes]) -> float:
        """From the first file that was queued to the last proof of the three."""

        def there() -> bool:
            rows = box.recordings()
            return names.keys() <= rows.keys() and all(
                rows[name].uploads[provider].state == "verified" for name in names for provider in OTHERS
            )

        await box.until(there)
        rows = box.recordings()
        proven = [rows[name].uploads[provider].verified_at or 0 for name in names for provider in OTHERS]
        return (max(proven) - min(rows[name].found_at for name in names)) / 1000

    async with arranged(servers, tmp_path) as places:
        box.send_to(places)
        with box.run() as daemon:
            before = _write(folder, "before")
            with_all = await seconds_until_the_others_have(before)
            await box.until_safe(FILES)

            silent: Fault | None = None
            if trouble == "refuses":
                endpoint.switch_off()
            else:
                silent = endpoint.faults.add(Fault(Kind.HOLD, protocol="s3", count=None))
            meanwhile = _write(folder, "meanwhile")
            with_three = await seconds_until_the_others_have(meanwhile)

            if silent is None:
                status = await _until_told(box)
                assert status["state"] == "SAFE", "what waits is not late yet"
                by_name = {one["name"]: one for one in status["providers"]}
                assert by_name["s3"]["state"] == "retrying"
                assert by_name["s3"]["waiting"] == FILES
                assert by_name["s3"]["problem"]["class"] == "transient"
                assert by_name["s3"]["problem"]["message"] and by_name["s3"]["next_probe_at"]
                for name in OTHERS:
                    assert (by_name[name]["state"], by_name[name]["problem"]) == ("ok", None)
                assert "s3" in (await box.uploaderd("status")).out
            # A provider that is down is probed: no upload fails again and again meanwhile.
            attempts = sum(upload.attempts for upload in box.uploads("s3").values())
            assert attempts <= FILES + 2 * 4 + 4

            back = time.monotonic()
            if silent is None:
                endpoint.switch_on()
            else:
                assert silent.fired
                endpoint.faults.remove(silent)
            rows = await box.until_safe(2 * FILES, within=120)
            caught_up = time.monotonic() - back
        assert daemon.said("provider works again", provider="s3") or silent is not None

        for name, content in {**before, **meanwhile}.items():
            upload = rows[name].uploads["s3"]
            await assert_whole(places["s3"], upload.key, content)
            assert upload.bytes_sent <= 4 * len(content)
        assert len(await places["s3"].vendor.keys()) == 2 * FILES

    figures = {
        "three providers, all four up (s)": round(with_all, 2),
        f"three providers, one that {trouble} (s)": round(with_three, 2),
        "the fourth, from being back until all is safe (s)": round(caught_up, 2),
        "attempts at the fourth for the files that waited": attempts - FILES,
    }
    for name, value in figures.items():
        record_property(name, value)
    print(f"{FILES} files of {SIZE} bytes: {figures}")  # noqa: T201 - figures are for people to note


async def _until_told(box: Box) -> Any:
    """The status once it says that the provider is in trouble."""

    def troubled() -> bool:
        with box.reading() as conn:
            assert conn is not None
            found = conn.execute("SELECT 1 FROM providers WHERE name = 's3' AND problem_since IS NOT NULL")
            return found.fetchone() is not None

    await box.until(troubled)
    return await box.status()
