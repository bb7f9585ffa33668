"""What the machine alone can judge stops the start with 78 and a message a fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import assert_whole
from tests.strict import StrictServer


async def test_each_fault_of_a_configuration_is_one_message_with_its_fix(box: Box) -> None:
    box.source()
    box.providers["nas"] = {"type": "directory", "path": str(box.folder / "copies")}
    box.write()
    good = box.config.read_text()
    box.config.write_text(
        good.replace("quiet_for =", "quiet_fro =")
        + "part_size = 8\n"
        + '[providers.cloud]\ntype = "s4"\n'
        + '[providers.s3_main]\ntype = "s3"\nbucket = "b"\nsecret_access_keys = "do-not-print-this"\n'
        + "[deamon]\n"
    )
    for command in ("run", "status", "list"):
        said = await box.uploaderd(command)
        assert said.code == 78, command
        assert said.out == ""
    said = await box.uploaderd("run")
    faults = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(faults) == len(said.err.splitlines()) == 5
    for key, fix in {
        "sources.hall.quiet_fro": '"quiet_for"',
        "providers.nas.part_size": '"8MiB"',
        "providers.cloud": '"s3"',
        "providers.s3_main.secret_access_keys": '"secret_access_key"',
        "deamon": '"daemon"',
    }.items():
        (fault,) = (fault for fault in faults if fault.startswith(f"error: {box.config}: {key}: "))
        assert fix in fault
    assert "do-not-print-this" not in said.err
    assert not box.ledger.exists()
    checked = await box.uploaderd("config", "check")
    assert (checked.code, checked.err) == (78, said.err)


async def test_a_syntax_error_says_where(box: Box) -> None:
    box.write()
    box.config.write_text("[daemon]\nlog_level = \n")
    said = await box.uploaderd("run")
    assert said.code == 78
    assert str(box.config) in said.err and "line 2" in said.err


@pytest.mark.parametrize("missing", ["sources", "providers"])
async def test_a_daemon_with_nothing_to_do_does_not_start(missing: str, box: Box) -> None:
    box.source()
    box.providers["nas"] = {"type": "directory", "path": str(box.folder / "copies")}
    getattr(box, missing).clear()
    box.write()
    said = await box.uploaderd("run")
    assert said.code == 78
    assert f"[{missing}.NAME]" in said.err


async def test_a_variable_overrides_the_file_and_an_unknown_one_is_refused(
    box: Box, places: Mapping[str, Place]
) -> None:
    folder = box.source(key="from-the-file/{path}")
    box.send_to({"directory": places["directory"]})
    (folder / "1.ts").write_bytes(b"one")
    variables = {"UPLOADERD_SOURCES__HALL__KEY": "from-the-variable/{path}"}
    with box.run("--until-safe", env=variables) as daemon:
        assert await daemon.ended() == 0
    assert await places["directory"].vendor.keys() == {"from-the-variable/1.ts"}
    shown = await box.uploaderd("config", "show", env=variables)
    assert "from-the-variable" in shown.out and "UPLOADERD_SOURCES__HALL__KEY" in shown.out

    said = await box.uploaderd("run", env={"UPLOADERD_SOURCES__HALL__QUIET_FRO": "1s"})
    assert said.code == 78
    assert "UPLOADERD_SOURCES__HALL__QUIET_FRO" in said.err
    assert 'did you mean "UPLOADERD_SOURCES__HALL__QUIET_FOR"' in said.err
    # What Kubernetes puts into pods beside a Service of that name is nobody's slip.
    harmless = {"UPLOADERD_PORT": "tcp://10.0.0.1:80", "UPLOADERD_SERVICE_HOST": "10.0.0.1"}
    assert (await box.uploaderd("config", "check", env=harmless)).code == 0


@pytest.mark.parametrize("through", ["--secrets-dir", "CREDENTIALS_DIRECTORY"])
async def test_a_secret_comes_from_a_file(
    through: str, box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    folder = box.source()
    box.send_to({"s3": places["s3"]})
    secrets: Path = box.folder / "secrets"
    secrets.mkdir()
    secret = box.providers["s3"].pop("secret_access_key")
    (secrets / "providers__s3__secret_access_key").write_text(f"{secret}\n")
    (folder / "1.ts").write_bytes(b"one")
    arguments = ["--secrets-dir", str(secrets)] if through.startswith("--") else []
    env = {} if arguments else {through: str(secrets)}
    with box.run("--until-safe", *arguments, env=env) as daemon:
        assert await daemon.ended() == 0
        assert secret not in daemon.text()
        shown = next(line for line in daemon.said("configuration") if line["table"] == "providers.s3")
        assert shown["values"]["secret_access_key"] == "SET"
    await assert_whole(places["s3"], box.uploads("s3")["1.ts"].key, b"one")
    # A person who may not read the secrets can ask all the same.
    assert (await box.status())["recordings"]["safe"] == 1
