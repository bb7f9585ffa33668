"""Keys: what a template may produce, and the suffix that resolves a conflict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uploaderd.config import Config
from uploaderd.errors import KeyRefused
from uploaderd.keys import Named, parse_template, place, text_of, with_suffix
from uploaderd.provider import Limits
from uploaderd.providers.bounds import bounds as bounds_of

NOON = 1_795_176_000_000  # 2026-11-20T12:00:00Z
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def limits(key_bytes: int = 1_024, component: int | None = None) -> Limits:
    return Limits(1, 1, 1, 1, 1, max_key_bytes=key_bytes, max_key_component_bytes=component)


def named(path: bytes = b"cam1/18-00.mp4", **values: object) -> Named:
    return Named(**{"source": "cameras", "path": path, "at_ms": NOON} | values)  # type: ignore[arg-type]


components = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
paths = st.lists(components, min_size=1, max_size=4).map(b"/".join)


# --- templates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{source}/{date:%Y/%m/%d}/{path}", "cameras/2026/11/20/cam1/18-00.mp4"),
        ("{name}", "18-00.mp4"),
        ("{stem}_{host}.{ext}", "18-00_box7.mp4"),
        ("a/{site}/{env:UNIT}/{path}", "a/hall-3/u1/cam1/18-00.mp4"),
        ("{date:%H}h/{name}", "12h/18-00.mp4"),
    ],
)
def test_fields(template: str, key: str) -> None:
    given_ = named(host="box7", site="hall-3", environ={"UNIT": "u1"})

    assert parse_template(template).render(given_) == key


@pytest.mark.parametrize(
    ("name", "stem", "ext"),
    [
        (b"a.tar.gz", "a.tar", "gz"),
        (b"plain", "plain", ""),
        (b".hidden", ".hidden", ""),
        (b"dot.", "dot", ""),
    ],
)
def test_stem_and_extension(name: bytes, stem: str, ext: str) -> None:
    assert parse_template("{stem}|{ext}|{path}").render(named(name)).split("|")[:2] == [stem, ext]


def test_the_date_is_of_the_sources_time_zone() -> None:
    template = parse_template("{date:%d-%H}/{path}")

    assert template.render(named(timezone="Pacific/Auckland")).startswith("21-01/")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{nope}/{path}", "unknown field"),
        ("{date}/{path}", "{date:%Y/%m/%d}"),
        ("{date:2026}/{path}", "format"),
        ("{env}/{path}", "{env:NAME}"),
        ("{env:NOT-ONE}/{path}", "environment variable"),
        ("{path:x}", "write {path}"),
        ("{path", "brace"),
        ("a}/{path}", "brace"),
        ("/{path}", "begins"),
        ("{path}/", "ends"),
        ("a\n/{path}", "control"),
        ("../{path}", "component"),
        ("a//{path}", "component"),
        ("./{path}", "component"),
        ("{date:../%Y}/{path}", "component"),
        ("{date:/%Y}/{path}", "begins"),
        ("{date:%Y/}/{path}", "component"),
        ("{date:%Y%n}/{path}", "control"),
        ("{source}", "same key"),
        ("", "component"),
    ],
)
def test_bad_templates_are_refused_at_the_start(template: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_template(template)


@given(
    path=paths,
    source=st.text(max_size=8),
    host=st.text(max_size=8),
    site=st.text(max_size=8),
    value=st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)),
    template=st.sampled_from(
        [
            "{path}",
            "{source}/{path}",
            "{host}/{site}/{name}",
            "{env:X}{stem}.{ext}",
            "{date:%Y}/{env:X}/{name}",
        ]
    ),
)
def test_no_key_climbs_whatever_the_values(
    path: bytes, source: str, host: str, site: str, value: str, template: str
) -> None:
    values = Named(source, path, NOON, host=host, site=site, environ={"X": value})
    try:
        key = parse_template(template).render(values)
    except KeyRefused:
        return

    assert not key.startswith("/")
    assert not {"", ".", ".."} & set(key.split("/"))
    assert not CONTROL.search(key)
    key.encode()


@given(paths)
def test_a_path_alone_is_always_a_key(path: bytes) -> None:
    assert parse_template("{path}").render(named(path)) == text_of(path)


@pytest.mark.parametrize("field", ["{source}", "{host}", "{site}", "{env:X}"])
def test_an_empty_value_is_refused_by_name(field: str) -> None:
    empty = named(source="", environ={"X": ""})

    with pytest.raises(KeyRefused, match=re.escape(field)):
        parse_template(field + "/{path}").render(empty)


@pytest.mark.parametrize("value", ["..", "../x", "/x", "a/../b", "a//b", "a/", "."])
def test_a_climbing_value_is_refused(value: str) -> None:
    with pytest.raises(KeyRefused):
        parse_template("x/{env:X}/{path}").render(named(environ={"X": value}))


def test_a_value_that_is_not_utf_8_is_percent_encoded() -> None:
    environ = {"X": b"caf\xe9\n".decode("utf-8", "surrogateescape")}

    assert parse_template("{env:X}/{name}").render(named(environ=environ)) == "caf%E9%0A/18-00.mp4"


# --- paths as text -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"cam 1/a+b%41.mp4", "cam 1/a+b%41.mp4"),
        ("é 🎥".encode(), "é 🎥"),
        (b"\xff\xfe.mp4", "%FF%FE.mp4"),
        (b"a\r\nb\x7f\t", "a%0D%0Ab%7F%09"),
    ],
)
def test_text_of(path: bytes, text: str) -> None:
    assert text_of(path) == text


@given(paths, paths)
def test_two_paths_are_two_texts(one: bytes, other: bytes) -> None:
    """Unless one is spelt as the other is encoded: the key is taken then, and gets a suffix."""
    assume(one != other)
    spelt = re.compile(rb"%[0-9A-F]{2}")
    assume(not spelt.search(one) and not spelt.search(other))

    assert text_of(one) != text_of(other)


# --- limits ------------------------------------------------------------------------------------


def test_the_prefix_goes_before() -> None:
    assert place("", "a/b", limits()) == "a/b"
    assert place("/backup/x/", "a/b", limits()) == "backup/x/a/b"


@pytest.mark.parametrize(
    ("key", "bounds"),
    [
        ("é" * 513, limits()),
        ("a/" + "é" * 128, limits(component=255)),
        ("x" * 256 + "/a", limits(component=255)),
    ],
)
def test_what_is_too_long_is_refused(key: str, bounds: Limits) -> None:
    with pytest.raises(KeyRefused) as caught:
        place("", key, bounds)

    assert caught.value.code == "key-too-long"
    assert place("", key[:3], bounds)


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=300)
bounds = st.builds(limits, st.integers(20, 1_024), st.none() | st.integers(20, 255))


@given(
    st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3),
    st.integers(0, 2**64 - 1),
    bounds,
)
def test_the_suffixed_key_keeps_the_limits(parts: list[str], crc: int, bounds: Limits) -> None:
    key = "/".join(parts)
    try:
        place("", key, bounds)
    except KeyRefused:
        return  # it never came so far
    try:
        suffixed = with_suffix(key, crc, bounds)
    except KeyRefused:
        # Only where there is truly no room: 17 bytes of suffix, 17 of extension, one of name.
        folder = key.rpartition("/")[0]
        component = bounds.max_key_component_bytes or 1_024
        assert bounds.max_key_bytes - len(folder.encode()) < 36 or component < 36
        return

    assert place("", suffixed, bounds) == suffixed
    assert f"{crc:016x}" in suffixed
    assert suffixed.rpartition("/")[0] == key.rpartition("/")[0]


def test_the_suffix_is_of_the_content_and_stands_before_the_extension() -> None:
    assert with_suffix("a/b.c.mp4", 0xAB, limits()) == "a/b.c.00000000000000ab.mp4"
    assert with_suffix("a/.hidden", 1, limits()) == "a/.hidden.0000000000000001"
    assert with_suffix("plain", 1, limits()) == "plain.0000000000000001"


def test_the_stem_is_cut_and_never_the_suffix() -> None:
    key = "x" * 251 + ".mp4"

    assert with_suffix(key, 1, limits(component=255)) == "x" * 234 + ".0000000000000001.mp4"


def test_what_follows_a_dot_far_from_the_end_is_no_extension() -> None:
    key = "1. " + "a long title " * 19

    suffixed = with_suffix(key, 1, limits(component=255))

    assert suffixed.endswith(".0000000000000001")
    assert len(suffixed.encode()) <= 255


def test_no_character_is_cut_in_two() -> None:
    suffixed = with_suffix("é" * 120 + ".mp4", 1, limits(component=200))

    assert suffixed == "é" * 89 + ".0000000000000001.mp4"


def test_no_room_is_said() -> None:
    with pytest.raises(KeyRefused) as caught:
        with_suffix("a" * 20, 1, limits(component=17))

    assert caught.value.hint


def test_no_provider_takes_a_key_that_another_would_not(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "providers": {
                "s3": {"type": "s3", "bucket": "b", "region": "eu-central-1"},
                "azure": {"type": "azure", "account": "a", "container": "c"},
                "gcs": {"type": "gcs", "bucket": "b"},
                "nas": {"type": "directory", "path": tmp_path},
            }
        }
    )
    assert {bounds_of(provider).max_key_bytes for provider in config.providers.values()} == {1024}
