"""url: what it prints reads the recording for anybody, until the time that it tells and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

from tests.acts.conftest import ME, events
from tests.contract.place import Place
from tests.end_to_end.box import Box, Said
from tests.end_to_end.places import arranged
from tests.servers.azurite import Azurite
from tests.servers.moto import Moto
from tests.strict import Fault, Kind, StrictServer

CLOUDS = ("s3", "azure", "gcs")
CONTENT = b"what anybody may read"


async def fetched(url: str) -> bytes:
    """By a client that knows nothing of any cloud."""

    def fetch() -> bytes:
        with build_opener(ProxyHandler({})).open(url, timeout=30) as reply:
            content: bytes = reply.read()
        return content

    return await asyncio.to_thread(fetch)


def only_url(said: Said) -> str:
    """The one line of its stdout."""
    assert said.code == 0, said.err
    assert said.out.count("\n") == 1 and said.out.endswith("\n")
    return said.out[:-1]


def good_until(said: Said) -> datetime:
    _, _, rest = said.err.partition("good until ")
    return datetime.fromisoformat(rest.split()[0])


async def _one_safe(box: Box, places: Mapping[str, Place]) -> None:
    (box.source() / "cam 1ü.ts").write_bytes(CONTENT)
    box.send_to(places)


async def test_each_provider_gives_one_that_ends_when_it_says(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    await _one_safe(box, places)

    with box.run():
        await box.until_safe(1)
        before = datetime.now(UTC)
        for provider in CLOUDS:
            said = await box.uploaderd("url", "cam 1", "--provider", provider, "--expires", "10m")
            assert await fetched(only_url(said)) == CONTENT
            assert said.err.startswith(f"from {provider}; good until ")
            left = good_until(said) - before
            assert timedelta(minutes=9) < left <= timedelta(minutes=10, seconds=60), said.err
            assert "asked for" not in said.err
        first = await box.uploaderd("url", "cam 1ü.ts")
        assert first.err.startswith("from s3;"), "the first of the configuration"
        last = await box.uploaderd("url", "cam 1", "--provider", "directory")
        assert last.err == "from directory; it is not signed, and does not expire\n"
        path = Path(unquote(urlsplit(only_url(last)).path))
        assert urlsplit(only_url(last)).scheme == "file"
        assert await asyncio.to_thread(path.read_bytes) == CONTENT

    # Without a daemon, too.
    said = await box.uploaderd("url", "cam 1", "--expires", "2m")
    assert await fetched(only_url(said)) == CONTENT
    told = await events(box, "url")
    assert [(one["who"], one["path"], one["provider"]) for one in told] == [
        (ME, "cam 1ü.ts", provider) for provider in (*CLOUDS, "s3", "directory", "s3")
    ]
    assert all(set(one["detail"]) == {"expires_at"} for one in told), "never the URL"  # type: ignore[call-overload]
    # Once the time is up, it is.
    endpoint.clock.offset = 180
    with pytest.raises(HTTPError, match="403") as refused:
        await fetched(only_url(said))
    refused.value.close()


async def test_the_order_is_kept_and_who_is_slow_gone_or_down_is_passed_over(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    await _one_safe(box, {name: places[name] for name in CLOUDS})
    box.daemon["retrieval_order"] = ["gcs", "s3"]
    with box.run():
        rows = await box.until_safe(1)
        assert (await box.uploaderd("url", "cam")).err.startswith("from gcs;")
        bucket = endpoint.gcs.buckets[places["gcs"].settings["bucket"]]
        endpoint.call(lambda: bucket.objects.pop(rows["cam 1ü.ts"].uploads["gcs"].key))
        assert (await box.uploaderd("url", "cam")).err.startswith("from s3;")
        gone = await box.uploaderd("url", "cam", "--provider", "gcs")
        assert (gone.code, gone.out) == (1, "") and "it has no object" in gone.err
        await places["s3"].vendor.put(rows["cam 1ü.ts"].uploads["s3"].key, b"x" * len(CONTENT))
        replaced = await box.uploaderd("url", "cam", "--provider", "s3")
        assert replaced.code == 1 and "is not the copy that was verified" in replaced.err
        assert (await box.uploaderd("url", "cam")).err.startswith("from azure;")
        held = endpoint.faults.add(Fault(Kind.HOLD, operation="GetObject", key="*", count=None))
        slow = await box.uploaderd("url", "cam")
        assert held.fired == 1 and slow.err.startswith("from azure;"), "nobody waits for the first"
        endpoint.faults.remove(held)
        endpoint.switch_off()
        beside = await box.uploaderd("url", "cam")
    alone = await box.uploaderd("url", "cam")
    for down in (beside, alone):
        assert (down.code, down.out) == (69, ""), down.err
        assert all(f"{name}: " in down.err for name in CLOUDS)


async def test_a_key_needs_no_ledger(box: Box, places: Mapping[str, Place], endpoint: StrictServer) -> None:
    box.source()
    box.send_to(places)
    box.daemon |= {"log_level": "debug", "log_levels": {"botocore": "debug"}}
    box.write()
    for place in places.values():
        await place.vendor.put("elsewhere/ü 1.ts", CONTENT)
    for provider in CLOUDS:
        said = await box.uploaderd("url", "--key", "elsewhere/ü 1.ts", "--provider", provider)
        assert await fetched(only_url(said)) == CONTENT
        assert said.err.count("\n") == 1, "the daemon's log levels are not a command's"
    missing = await box.uploaderd("url", "--key", "elsewhere/2.ts")
    assert (missing.code, missing.out) == (1, "") and missing.err.count("it has no object") == 4
    assert not box.ledger.exists()
    assert not box.ledger.with_name("ledger.db.lock").exists()
    endpoint.switch_off()
    down = await box.uploaderd("url", "--key", "elsewhere/ü 1.ts")
    assert only_url(down).startswith("file://") and down.err.startswith("from directory;")
    del box.providers["directory"]
    box.write()
    down = await box.uploaderd("url", "--key", "elsewhere/ü 1.ts")
    assert (down.code, down.out) == (69, "")


async def test_a_public_address_is_given_as_it_is_and_what_cannot_sign_says_so(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    box.source()
    box.send_to({"azure": places["azure"]})
    await places["azure"].vendor.put("1 ü.ts", CONTENT)
    account = endpoint.azure.account
    table = box.providers["azure"]
    del table["account_key"]
    table["sas_token"] = generate_account_sas(
        account.name,
        account.key,
        ResourceTypes(object=True, container=True),
        AccountSasPermissions(write=True, read=True),
        datetime.now(UTC) + timedelta(hours=1),
    )
    box.write()
    unsigned = await box.uploaderd("url", "--key", "1 ü.ts")
    assert (unsigned.code, unsigned.out) == (1, "")
    assert "cannot sign: set public_url" in unsigned.err
    assert table["sas_token"] not in unsigned.err
    table["public_url"] = "https://recordings.example.com/hall"
    box.write()
    plain = await box.uploaderd("url", "--key", "1 ü.ts")
    assert plain.out == "https://recordings.example.com/hall/1%20%C3%BC.ts\n"
    assert plain.err == "from azure; it is not signed, and does not expire\n"


async def test_it_never_outlives_the_login_and_an_archive_tier_is_said(
    box: Box, places: Mapping[str, Place], moto: Moto, azurite: Azurite, tmp_path: Path
) -> None:
    (tmp_path / "emulated").mkdir()
    async with arranged({"s3-moto": moto, "azure-azurite": azurite}, tmp_path / "emulated") as emulated:
        box.source()
        box.send_to(emulated)
        role = "arn:aws:iam::123456789012:role/reader"
        box.providers["s3"]["assume_role_arn"] = role  # its session lasts an hour
        box.write()
        for place in emulated.values():
            await place.vendor.put("1.ts", CONTENT)
        said = await box.uploaderd("url", "--key", "1.ts", "--provider", "s3", "--expires", "1d")
        url = only_url(said)
        assert await fetched(url) == CONTENT
        query = parse_qs(urlsplit(url).query)
        begins = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        ends = begins + timedelta(seconds=int(query["X-Amz-Expires"][0]))
        assert good_until(said) <= ends <= begins + timedelta(hours=1)
        assert ends - good_until(said) < timedelta(seconds=60)
        assert "less than the 1d 00h asked for" in said.err
        blob = await box.uploaderd("url", "--key", "1.ts", "--provider", "azure")
        assert await fetched(only_url(blob)) == CONTENT
    box.send_to({name: places[name] for name in ("s3", "azure", "gcs")})
    box.providers["s3"]["storage_class"] = "DEEP_ARCHIVE"
    box.providers["azure"]["tier"] = "archive"
    box.providers["gcs"]["storage_class"] = "ARCHIVE"  # which can be read at once
    (Path(box.sources["hall"]["path"]) / "2.ts").write_bytes(CONTENT)
    with box.run("--until-safe", "--expect", "1") as daemon:
        assert await daemon.ended() == 0
    for provider in CLOUDS:
        said = await box.uploaderd("url", "2.ts", "--provider", provider)
        assert ("in an archive tier" in said.err) == (provider != "gcs"), said.err
        only_url(said)


async def test_what_is_not_known_is_refused_with_the_nearest(box: Box, places: Mapping[str, Place]) -> None:
    folder = box.source()
    box.send_to({"directory": places["directory"]})
    with box.run("--until-safe", "--expect", "1") as daemon:
        (folder / "cam1-18-00.ts").write_bytes(CONTENT)
        assert await daemon.ended() == 0
    for arguments, why in (
        (("cam1-18-01.ts",), 'did you mean "cam1-18-00.ts"?'),
        (("cam1", "--provider", "directry"), "did you mean 'directory'?"),
        (("cam1", "--expires", "1"), "unit"),
        (("cam1", "--key", "x"), "either a PATH or a --key"),
        ((), "either a PATH or a --key"),
    ):
        said = await box.uploaderd("url", *arguments)
        assert (said.code, said.out) == (2, ""), arguments
        assert why in said.err, said.err
