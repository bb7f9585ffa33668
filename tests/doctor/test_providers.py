"""At each provider: what works is done for real and leaves nothing; what does not is named, with a fix."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.cli.process import ROOT
from tests.contract.place import Place
from tests.doctor.asking import Clinic
from tests.end_to_end.places import arranged, deny
from tests.servers.azurite import Azurite
from tests.servers.gcs import GcsEmulator
from tests.servers.moto import Moto
from tests.strict import StrictServer
from tests.strict.faults import Fault, Kind
from tests.strict.s3 import ACTIONS

CLOUDS = ("s3", "azure", "gcs")
TRIAL = ["write", "verify", "half-done uploads", "read back", "URL", "delete"]


async def test_all_is_well_and_nothing_is_left(clinic: Clinic, places: Mapping[str, Place]) -> None:
    clinic.box.source()
    clinic.box.send_to(places)
    asked = await clinic.examine()
    for name, place in places.items():
        about = f"provider {name}"
        assert asked.bad(about) == {}, name
        assert asked.checks(about)[-len(TRIAL) :] == TRIAL
        assert await place.vendor.keys() == set()
        assert await place.vendor.leftovers() == 0
    assert "signed" in asked.of("provider s3", "URL").text
    assert "access key from the configuration" in asked.of("provider s3", "login").text
    assert os.listdir(clinic.box.providers["directory"]["path"]) == [], "the daemon could not enter it"


async def test_at_the_vendors_emulators(
    clinic: Clinic, moto: Moto, azurite: Azurite, gcs_emulator: GcsEmulator, tmp_path: Path
) -> None:
    servers = {"s3-moto": moto, "azure-azurite": azurite, "gcs-emulator": gcs_emulator}
    clinic.box.source()
    async with arranged(servers, tmp_path) as places:
        clinic.box.send_to(places)
        asked = await clinic.examine()
        assert asked.bad("provider azure") == {}
        assert asked.bad("provider s3") == {"unfinished uploads": "warn"}
        assert asked.bad("provider gcs") == {"URL": "warn"}  # no login: nothing to sign with
        assert await places["s3"].vendor.keys() == set()


async def test_without_writing_no_object_is_written(
    clinic: Clinic, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    clinic.box.source()
    clinic.box.send_to(places)
    asked = await clinic.examine(write=False)
    for name in places:
        assert asked.bad(f"provider {name}") == {}
        assert asked.of(f"provider {name}", "write").text == "not tried: --no-write"
    written = {"PutObject", "PutBlob", "PutBlockList", "MultipartUpload"}
    assert not written & {entry.operation for entry in endpoint.log.entries()}
    assert os.listdir(clinic.box.providers["directory"]["path"]) == []


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_wrong_key_is_a_failure_of_the_login(
    cloud: str, clinic: Clinic, places: Mapping[str, Place]
) -> None:
    clinic.box.providers[cloud] = dict(places[cloud].wrong_login)
    asked = await clinic.examine()
    about = f"provider {cloud}"
    assert asked.bad(about) == {"login": "fail"}
    assert f"[providers.{cloud}]" in asked.of(about, "login").fix
    assert "write" not in asked.checks(about)


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_missing_bucket_is_named(cloud: str, clinic: Clinic, places: Mapping[str, Place]) -> None:
    table = clinic.box.providers[cloud] = dict(places[cloud].missing_bucket)
    found = (await clinic.examine()).of(f"provider {cloud}", "login")
    assert found.result == "fail"
    assert str(table.get("container") or table["bucket"]) in found.fix
    assert "create" in found.fix


@pytest.mark.parametrize(
    ("cloud", "denied", "grants"),
    [
        ("s3", {"s3:PutObject"}, "do s3:PutObject in the bucket"),
        ("azure", {"PutBlob", "PutBlock"}, "the role Storage Blob Data Contributor"),
        ("gcs", {"storage.objects.create"}, "roles/storage.objectUser"),
    ],
)
async def test_a_permission_that_is_missing_is_named_with_what_grants_it(
    cloud: str,
    denied: set[str],
    grants: str,
    clinic: Clinic,
    places: Mapping[str, Place],
    endpoint: StrictServer,
) -> None:
    clinic.box.send_to({cloud: places[cloud]})
    deny(endpoint, cloud, denied)
    found = (await clinic.examine()).of(f"provider {cloud}", "login")
    assert found.result == "fail"
    assert grants in found.fix


ONLY_WRITE: Mapping[str, set[str]] = {
    "s3": {"s3:GetObject", "s3:ListBucket", "s3:DeleteObject", "s3:ListMultipartUploadParts",
           "s3:AbortMultipartUpload"},
    "azure": {"GetBlobProperties", "GetBlob", "DeleteBlob", "GetBlockList"},
    "gcs": {"storage.objects.get", "storage.objects.list", "storage.objects.delete"},
}  # fmt: skip


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_login_that_may_only_write_narrows_the_proof(
    cloud: str, clinic: Clinic, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    clinic.box.send_to({cloud: places[cloud]})
    deny(endpoint, cloud, ONLY_WRITE[cloud])
    asked = await clinic.examine()
    about = f"provider {cloud}"
    assert asked.of(about, "write").result == "ok"
    verified = asked.of(about, "verify")
    assert verified.result == "warn"
    assert "may write but not look" in verified.text and ", reply" in verified.text
    deleted = asked.of(about, "delete")
    assert deleted.result == "warn"
    deny(endpoint, cloud, set())
    (left,) = await places[cloud].vendor.keys()
    assert left in deleted.text and "--no-write" in deleted.fix
    if cloud == "s3":
        assert "paid for" in asked.of(about, "half-done uploads").text


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_the_clock_is_measured_by_the_providers(
    cloud: str, clinic: Clinic, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    clinic.box.send_to({cloud: places[cloud]})
    for ahead, result in ((0.0, "ok"), (90.0, "warn"), (-3600.0, "fail")):
        endpoint.clock.offset = -ahead
        found = (await clinic.examine(write=False)).of(f"provider {cloud}", "clock")
        assert found.result == result
        if ahead:
            assert ("ahead of" if ahead > 0 else "behind") in found.text
            assert any(f"{abs(ahead) + odd:.0f} s" in found.text for odd in (-1, 0, 1))


async def test_buckets_that_keep_what_is_written_are_spared(clinic: Clinic, moto: Moto) -> None:
    """And what a lifecycle rule does for the prefix."""
    client = boto3.client("s3", endpoint_url=moto.url, region_name="us-east-1",
                          aws_access_key_id="any", aws_secret_access_key="not-a-real-key")  # fmt: skip

    def arrange() -> None:
        client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        client.put_object_lock_configuration(
            Bucket="locked",
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 365}},
            },
        )
        client.create_bucket(Bucket="ruled")
        rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": "hall/"},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}  # fmt: skip
        client.put_bucket_lifecycle_configuration(Bucket="ruled", LifecycleConfiguration={"Rules": [rule]})

    await asyncio.to_thread(arrange)
    table: dict[str, Any] = {
        "type": "s3", "endpoint_url": moto.url, "region": "us-east-1", "access_key_id": "any",
        "secret_access_key": "not-a-real-key",
    }  # fmt: skip
    clinic.box.providers = {
        "locked": table | {"bucket": "locked"},
        "ruled": table | {"bucket": "ruled", "prefix": "hall"},
        "beside": table | {"bucket": "ruled", "prefix": "yard"},
    }
    asked = await clinic.examine()
    refused = asked.of("provider locked", "write")
    assert refused.result == "warn"
    assert "compliance mode, for 365 days" in refused.text
    assert client.list_objects_v2(Bucket="locked")["KeyCount"] == 0
    assert asked.of("provider ruled", "unfinished uploads").result == "ok"
    assert asked.of("provider beside", "unfinished uploads").result == "warn"


async def test_versions_of_the_trial_are_deleted_too(clinic: Clinic, moto: Moto) -> None:
    client = boto3.client("s3", endpoint_url=moto.url, region_name="us-east-1",
                          aws_access_key_id="any", aws_secret_access_key="not-a-real-key")  # fmt: skip

    def arrange() -> None:
        client.create_bucket(Bucket="versions")
        client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})

    await asyncio.to_thread(arrange)
    clinic.box.providers["s3"] = {
        "type": "s3", "endpoint_url": moto.url, "region": "us-east-1", "access_key_id": "any",
        "secret_access_key": "not-a-real-key", "bucket": "versions",
    }  # fmt: skip
    assert (await clinic.examine()).of("provider s3", "delete").result == "ok"
    left = client.list_object_versions(Bucket="versions")
    assert not left.get("Versions") and not left.get("DeleteMarkers")


async def test_a_trial_that_comes_back_changed_is_a_failure(
    clinic: Clinic, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    clinic.box.send_to({"azure": places["azure"]})
    with endpoint.faults.expected(Fault(Kind.FLIP_AT_REST, operation="PutBlob", at_byte=3)):
        asked = await clinic.examine()
    assert asked.of("provider azure", "read back").result == "fail"
    assert await places["azure"].vendor.keys() == set()


@pytest.mark.parametrize("operation", ["GetBlob", "DeleteBlob"])
async def test_a_trial_that_is_cut_short_is_deleted(
    operation: str, clinic: Clinic, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    clinic.box.send_to({"azure": places["azure"]})
    with endpoint.faults.expected(Fault(Kind.HOLD, operation=operation)) as (held,):
        asking = asyncio.create_task(clinic.examine())
        await asyncio.to_thread(held.wait_fired)
        assert len(await places["azure"].vendor.keys()) == 1
        asking.cancel()
        if operation == "DeleteBlob":  # it is waited for
            assert not (await asyncio.wait({asking}, timeout=0.3))[0]
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert await places["azure"].vendor.keys() == set()


async def test_a_provider_that_hangs_keeps_nobody_waiting(
    clinic: Clinic, places: Mapping[str, Place], endpoint: StrictServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uploaderd.doctor.findings.looked.__defaults__", (0.5,))
    clinic.box.send_to({"s3": places["s3"], "directory": places["directory"]})
    with endpoint.faults.expected(Fault(Kind.HOLD, protocol="s3", operation="*", count=None)):
        asked = await clinic.examine()
    assert asked.of("provider s3", "login").text == "no answer in 0.5 s"
    assert asked.bad("provider directory") == {}


async def test_the_smallest_policy_of_the_documentation_is_enough_and_deletes_nothing(
    clinic: Clinic, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    (policy,) = (
        json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    )
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert allowed <= set(ACTIONS.values()), "the endpoint must know what is granted"
    endpoint.s3.account.denied = set(ACTIONS.values()) - allowed
    clinic.box.send_to({"s3": places["s3"]})
    asked = await clinic.examine()
    assert asked.bad("provider s3") == {"delete": "warn"}
    # And none of it is there for nothing.
    for action in allowed - {"s3:ListBucketMultipartUploads", "s3:ListBucket"}:
        endpoint.s3.account.denied = set(ACTIONS.values()) - allowed | {action}
        assert (await clinic.examine()).bad("provider s3") != {"delete": "warn"}, action
