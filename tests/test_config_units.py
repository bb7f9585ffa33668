import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.config.bandwidth import Bandwidth, format_bandwidth, parse_bandwidth
from uploaderd.config.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("400d", 34_560_000),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("2w", 1_209_600),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "5x",
        "-5s",
        "5 s",
        "30m1h",
        "1h1h",
        "5s ",
        "1e3s",
        "inf",
        "nan",
        "90S",
        "1000000000w",
        "\u0665s",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration|longer than a century"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("parse", "right"), [(parse_duration, '"90s"'), (parse_size, '"90MiB"'), (parse_rate, '"90Mbit/s"')]
)
@pytest.mark.parametrize("bare", [90, "90"])
def test_a_bare_number_is_refused_with_the_right_spelling(parse, right, bare) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="has no unit") as refused:
        parse(bare)
    assert right in str(refused.value)


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_rate])
@pytest.mark.parametrize("value", [True, None, [], {}, -5, 1e300])
def test_other_types_are_refused(parse, value) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"in quotes|no unit"):
        parse(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8MiB", 8 << 20), ("5GB", 5 * 10**9), ("512B", 512), ("1.5 KiB", 1536), ("5TiB", 5 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["8M", "8mib", "8Mb", "MiB", "-1B", "8MiB/s", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("40Mbit/s", 5_000_000), ("5MiB/s", 5 << 20), ("8bit/s", 1), ("1GB/s", 10**9), ("unlimited", None)],
)
def test_rates(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["40Mbit", "40mbit/s", "40Mbps", "0Mbit/s", "1bit/s", "/s", "40Mbit/m"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a rate|less than one byte"):
        parse_rate(text)


@given(st.integers(0, 3_000_000_000_000_000))
def test_durations_come_back(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.integers(0, 2**60))
def test_sizes_come_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.one_of(st.none(), st.integers(1, 2**50)))
def test_rates_come_back(rate: int | None) -> None:
    assert parse_rate(format_rate(rate)) == rate


@given(st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.booleans(), st.none()))
def test_nothing_but_a_value_error(value: object) -> None:
    for parse in (parse_duration, parse_size, parse_rate, parse_bandwidth):
        try:
            parse(value)
        except ValueError:
            pass


def test_bandwidth_by_time_of_day() -> None:
    written = {
        "default": "unlimited",
        "mon-fri 08:00-18:00": "20Mbit/s",
        "sat,sun 00:00-24:00": "40Mbit/s",
        "22:00-06:00": "1B/s",
    }
    limit = parse_bandwidth(written)
    assert limit.rate is None
    work, weekend, night = limit.windows
    assert (work.days, work.start, work.end, work.rate) == (frozenset(range(5)), 480, 1080, 2_500_000)
    assert weekend.days == {5, 6}
    assert (len(night.days), night.start, night.end, night.rate) == (7, 1320, 360, 1)
    assert format_bandwidth(limit) == written
    assert parse_bandwidth("40Mbit/s") == Bandwidth(5_000_000)
    assert parse_bandwidth({"sun-tue 01:00-02:00": "8bit/s"}).windows[0].days == {6, 0, 1}


@pytest.mark.parametrize(
    "when",
    [
        "mon-fry 08:00-18:00",
        "08:00",
        "25:00-26:00",
        "08:60-09:00",
        "08:00-08:00",
        "24:00-01:00",
        "Mon 08:00-09:00",
        "",
    ],
)
def test_what_is_no_window(when: str) -> None:
    with pytest.raises(ValueError, match=r"window|times|day"):
        parse_bandwidth({when: "20Mbit/s"})


def test_a_bad_rate_names_its_window() -> None:
    with pytest.raises(ValueError, match='"default": 5 has no unit'):
        parse_bandwidth({"default": 5})
    with pytest.raises(ValueError, match='"08:00-09:00": 5 has no unit'):
        parse_bandwidth({"08:00-09:00": 5})
