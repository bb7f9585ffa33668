"""The lock files: everything that pyproject.toml asks for, every wheel with its hash, and no host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.home.debian import LOCKS, ROOT, applicable, wheels

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REMAKE = "make it anew with the command in its first lines"


def pinned(lock: str) -> list[Requirement]:
    lines = re.findall(r"^([a-z0-9].*?)(?: \\)?$", lock, re.MULTILINE)
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(
    ("lock", "wanted"),
    zip(
        LOCKS,
        (PROJECT["project"]["dependencies"], PROJECT["build-system"]["requires"]),
        strict=True,
    ),
    ids=["requirements", "build"],
)
def test_it_has_what_is_asked_for(lock: Path, wanted: list[str]) -> None:
    there = pinned(lock.read_text())
    for text in wanted:
        requirement = Requirement(text)
        versions = [
            next(iter(one.specifier)).version
            for one in there
            if canonicalize_name(one.name) == canonicalize_name(requirement.name)
        ]
        fitting = [version for version in versions if requirement.specifier.contains(version)]
        assert fitting, f"{lock.name} has {versions} where pyproject.toml wants {text}: {REMAKE}"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_each_version_is_exact_and_has_hashes(lock: Path) -> None:
    for entry in re.findall(r"^[a-z0-9].*?(?=^\S|\Z)", lock.read_text(), re.MULTILINE | re.DOTALL):
        first, *hashes = entry.rstrip("\n").split("\n")
        assert next(iter(Requirement(first.removesuffix(" \\")).specifier)).operator == "==", first
        assert hashes, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line) for line in hashes), first


@pytest.mark.timeout(300)  # the first time it fetches them
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_package_is_there_as_a_wheel_for_each_machine(machine: str) -> None:
    """Of those that the image is for; each with a hash that the lock has, or pip would have refused it."""
    there = {canonicalize_name(wheel.name.partition("-")[0]) for wheel in wheels(machine).glob("*.whl")}
    for lock in LOCKS:
        wanted = pinned(applicable(lock.read_text(), machine))
        assert not {canonicalize_name(one.name) for one in wanted} - there


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_it_names_no_host(lock: Path) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", lock.read_text())


def test_the_image_gets_what_the_dockerfile_copies_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert let_in == {path for line in copied for path in line.split()}
