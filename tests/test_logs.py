"""What log lines say, and that no secret is ever in one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from uploaderd.logs import mask, register_secret, secrets, setup
from uploaderd.logs.setup import about, configure, get_logger

SECRET = "not-a-real-secret/+="


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing registered before a test, and the process's logging as it was after it."""
    root = logging.getLogger()
    level, hooks, handlers = root.level, (sys.excepthook, threading.excepthook), list(root.handlers)
    configuration = structlog.get_config()
    monkeypatch.setattr(secrets, "_registered", secrets._Registered())
    yield
    # Without this, what later tests log in this process would be rendered, and masked, line by line.
    structlog.configure(**configuration)
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)


@pytest.fixture
def written() -> io.StringIO:
    stream = io.StringIO()
    configure(level="debug", stream=stream)
    return stream


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes pytest's own handlers away: they raise where a program's handler must not."""

    def only_ours() -> None:
        root = logging.getLogger()
        ours = [each for each in root.handlers if isinstance(each, setup._Handler)]
        monkeypatch.setattr(root, "handlers", ours)

    return only_ours


def line(written: io.StringIO) -> dict[str, Any]:
    (only,) = written.getvalue().splitlines()
    parsed = json.loads(only)
    assert isinstance(parsed, dict)
    return parsed


# --- shapes of secrets that nobody registered -----------------------------------------------------------

HIDDEN = [
    # (what a library writes, what must be gone, what must still be there)
    ("Authorization: Bearer abc.def-123\r\nHost: x", ["abc.def"], ["Authorization", "Host: x"]),
    ("{'Authorization': 'SharedKey acct:c2lnbmF0dXJl=', 'Host': 'x'}", ["c2lnbmF0"], ["'Host': 'x'"]),
    (
        "'Authorization': b'AWS4-HMAC-SHA256 Credential=AKIAX/20261120/eu, Signature=0123456789abcdef0'}",
        ["AKIAX", "0123456789abcdef0"],
        ["Authorization"],
    ),
    ("('Authorization', 'Basic dXNlcjpwYXNz')", ["dXNlcjpwYXNz"], []),
    ("proxy-authorization=Basic dXNlcjpwYXNz", ["dXNlcjpwYXNz"], []),
    ("sent Bearer ya29.a0AfB_byC-1234567890", ["ya29"], ["sent Bearer"]),
    (
        "GET /b/k?X-Amz-Credential=AKIAX%2F2026&X-Amz-Security-Token=FwoG%2Fx&X-Amz-Signature=dead&x-id=1",
        ["AKIAX", "FwoG", "dead"],
        ["/b/k", "x-id=1"],
    ),
    ("x-amz-security-token:IQoJb3JpZ2lu/+==\nhost:x", ["IQoJ"], ["host:x"]),
    ("Signature:\n0123456789abcdef0123456789abcdef", ["0123456789abcdef"], []),
    (
        "https://a.blob.example/c/b?sv=2024&se=2026-11-20&sig=ab%2Fcd%3D&sp=r",
        ["ab%2F", "cd%3D"],
        ["sv=2024", "sp=r"],
    ),
    ("next=https%3A%2F%2Fx%3Fsig%3DabCD12&y=1", ["abCD12"], ["y=1"]),
    (
        "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=bm90IHJlYWw=;EndpointSuffix=x",
        ["bm90IHJlYWw"],
        ["AccountName=acct", "EndpointSuffix=x"],
    ),
    ("AZURE_STORAGE_CONNECTION_STRING=BlobEndpoint=x;AccountKey=bm90=", ["bm90"], []),
    (
        "PUT https://storage.example/upload?uploadType=resumable&upload_id=ADPycdv_x-1",
        ["ADPycdv"],
        ["resumable"],
    ),
    ("X-GUploader-UploadID: ADPycdv_x-1", ["ADPycdv"], []),
    ("?X-Goog-Signature=00ff&X-Goog-Credential=sa%40p.iam", ["00ff", "sa%40p"], []),
    ("assertion eyJhbGciOi.eyJpc3MiOiJ.c2ln here", ["eyJ", "c2ln"], ["here"]),
    ('{"access_token": "ya29.x", "expires_in": 3599}', ["ya29"], ["3599"]),
    (
        '{"Code" : "Success", "SecretAccessKey" : "wJalr", "Token" : "IQoJb3"}',
        ["wJalr", "IQoJb3"],
        ["Success"],
    ),
    ('"{\\"client_secret\\": \\"abc~def\\", \\"tenant\\": \\"t\\"}"', ["abc~def"], ["tenant"]),
    ("b'<SecretAccessKey>wJalr</SecretAccessKey><SessionToken>FQoG</SessionToken>'", ["wJalr", "FQoG"], []),
    (
        "-----BEGIN PRIVATE KEY-----\nMIIEvQ\nAAAA\n-----END PRIVATE KEY-----\nafter",
        ["MIIE", "AAAA"],
        ["after"],
    ),
    ("-----BEGIN RSA PRIVATE KEY-----\\nMIIEvQ\\n-----END RSA PRIVATE KEY-----", ["MIIE"], []),
    ("-----BEGIN PRIVATE KEY-----\nMIIEvQ cut off", ["MIIE"], []),
    ("proxy http://user:hunter22@proxy:3128/", ["hunter22"], ["http://user:", "@proxy:3128"]),
    ("UPLOADERD_PROVIDERS__S3_MAIN__SECRET_ACCESS_KEY=wJalr", ["wJalr"], ["S3_MAIN"]),
    ("x-amz-server-side-encryption-customer-key: AAAAkey=", ["AAAAkey"], []),
]

SHOWN = [
    "uploaded cameras/2026/11/20/18-00.mp4 to s3_main: verified, crc64nvme full object",
    "GET https://bucket.s3.example/key?partNumber=3&uploadId=2~abc",
    "AccessDenied: the key may not s3:PutObject on recordings; grant it (403, request 4442587FB7D0A2F9)",
    "token 0f0e0d0c0b0a09080706050403020100, design=new, bearing: north",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "logs in with connection string",
    "http://127.0.0.1:9000/bucket and user@host",
]


@pytest.mark.parametrize(("text", "gone", "kept"), HIDDEN)
def test_shapes_of_secrets_are_masked(text: str, gone: list[str], kept: list[str]) -> None:
    masked = mask(text)
    assert not [each for each in gone if each in masked], masked
    assert not [each for each in kept if each not in masked], masked
    assert mask(masked) == masked


@pytest.mark.parametrize("text", SHOWN)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert mask(text) == text


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert mask(mask(text)) == mask(text)


# --- values that were registered ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        "not-a-real-secret%2F%2B%3D",
        "not-a-real-secret/%2B%3D",
        json.dumps({"a": [SECRET]}),
        repr(SECRET.encode()),
        "bm90LWEtcmVhbC1zZWNyZXQvKz0=",
    ],
)
def test_a_registered_value_is_found_in_each_spelling(spelled: str) -> None:
    register_secret(SECRET)
    assert "real" not in mask(f"before {spelled} after")
    assert "bm90" not in mask(spelled)
    assert mask(f"before {spelled} after").startswith("before ")


def test_each_line_of_a_key_file_is_a_secret_and_its_frame_is_not() -> None:
    register_secret("-----BEGIN X-----\nQUJDREVGR0hJSktMTU5P\n-----END X-----\n")
    assert mask("stray QUJDREVGR0hJSktMTU5P -----BEGIN X-----") == "stray *** -----BEGIN X-----"


def test_very_short_values_do_not_garble_the_lines() -> None:
    register_secret("in")
    register_secret("")
    assert mask("within reach") == "within reach"


def test_what_was_shown_before_it_was_registered_is_shown_no_more() -> None:
    assert mask("a-rotated-value") == "a-rotated-value"
    register_secret("a-rotated-value")
    assert mask("a-rotated-value") == "***"


class Reveals:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"<client key={self.secret!r}>"


@dataclass
class Credentials:
    opaque: str


def nested(secret: str) -> st.SearchStrategy[object]:
    """Any shape of value that a log call may be given, with the secret somewhere in most of them."""
    texts = st.sampled_from([secret, f"x{secret}y", f"https://h/?q={secret}", secret * 2])
    leaves = st.one_of(
        texts,
        st.none(),
        st.integers(),
        st.floats(),
        texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
        texts.map(Reveals),
        texts.map(Credentials),
        texts.map(ValueError),
        texts.map(
            lambda text: Path("/srv") / text.replace("\0", "_") if secret in text.replace("\0", "_") else text
        ),
    )
    keys = st.one_of(st.sampled_from(["path", "error", "Authorization"]), texts)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=12,
    )


STRUCTURE = [
    '{"timestamp": "',
    '", "level": "error", "event": "',
    '"logger": "uploaderd.test"',
    "Traceback (most recent call last)",
]
SECRETS: st.SearchStrategy[str] = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=6, max_size=40
).filter(
    # A secret that spells a word of every line, or a number, is not one; and a blank one is no secret either.
    lambda text: text.strip() == text and not any(text in each for each in STRUCTURE)
)


@settings(max_examples=150, deadline=None)
@given(st.data(), SECRETS, st.sampled_from(["json", "console"]))
def test_a_registered_secret_is_in_no_line_whatever_the_nesting(
    data: st.DataObject, secret: str, form: Any
) -> None:
    secrets._registered = secrets._Registered()  # each example its own
    register_secret(secret)
    stream = io.StringIO()
    configure(level="debug", levels={"library": "debug"}, stream=stream, form=form)
    value = data.draw(nested(secret))
    with about(recording=secret):
        get_logger("uploaderd.test").error(f"failed {secret}", value=value, deep=[[[[[[[[[[value]]]]]]]]]])
        logging.getLogger("library").debug("sent %r and %s", value, secret)
        try:
            raise RuntimeError(secret) from KeyError(secret)
        except RuntimeError:
            get_logger("uploaderd.test").exception("crashed", kw=value)
            logging.getLogger("library").exception("crashed")
    shown = stream.getvalue()
    assert shown.count("crashed") >= 2
    assert secret not in shown
    if form == "json":
        for each in shown.split("\n")[:-1]:
            json.loads(each)


# --- lines ----------------------------------------------------------------------------------------------


def test_a_line_is_one_json_object_with_what_people_look_for_first(written: io.StringIO) -> None:
    get_logger("uploaderd.worker").info("uploaded", size=3, path=b"cam\xff1/\xc3\xa9.mp4")
    shown = line(written)
    assert list(shown)[:4] == ["timestamp", "level", "event", "logger"]
    assert shown | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "uploaded",
        "logger": "uploaderd.worker",
        "size": 3,
        "path": "cam%FF1/é.mp4",
    }
    assert shown["timestamp"].endswith("Z")


def test_values_under_a_secret_name_are_masked_whatever_they_look_like(written: io.StringIO) -> None:
    get_logger("uploaderd").info(
        "effective configuration",
        providers={
            "s3": {"secret_access_key": "short", "bucket": "b", "session_token": None, "account_key": "SET"}
        },
        headers={b"Authorization": b"x", "X-Ms-Date": "now"},
    )
    shown = line(written)
    assert shown["providers"]["s3"] == {
        "secret_access_key": "***",
        "bucket": "b",
        "session_token": None,
        "account_key": "SET",
    }
    assert shown["headers"] == {"Authorization": "***", "X-Ms-Date": "now"}


def test_exceptions_are_shown_with_their_cause_and_without_their_secrets(written: io.StringIO) -> None:
    register_secret(SECRET)
    try:
        raise ConnectionError(f"refused https://h/?sig=abc {SECRET}") from OSError("DNS")
    except ConnectionError:
        get_logger("uploaderd").exception("probe failed")
    text = line(written)["exception"]
    assert "ConnectionError: refused https://h/?sig=*** ***" in text
    assert "OSError: DNS" in text


def test_libraries_pass_through_the_same_processors(written: io.StringIO) -> None:
    configure(level="info", levels={"azure": "debug"}, stream=written)
    logging.getLogger("azure.core.policies").debug("%r: %r", "Authorization", "SharedKey a:c2ln")
    assert line(written)["event"] == "'Authorization': '***'"
    assert line(written)["logger"] == "azure.core.policies"


async def test_every_line_of_an_upload_carries_what_it_is_about(written: io.StringIO) -> None:
    both_inside = asyncio.Barrier(2)

    async def upload(recording: str, provider: str) -> None:
        with about(recording=recording, provider=provider, attempt=1):
            await both_inside.wait()
            get_logger("uploaderd.upload").info("part sent")
            await asyncio.to_thread(logging.getLogger("botocore").warning, "retry")

    async with asyncio.TaskGroup() as group:
        group.create_task(upload("one", "s3_main"))
        group.create_task(upload("two", "azure_dr"))
    get_logger("uploaderd").info("after")
    lines = [json.loads(each) for each in written.getvalue().splitlines()]
    assert sorted(
        (each["event"], each.get("recording"), each.get("provider"), each.get("attempt"))
        for each in lines[:4]
    ) == [
        ("part sent", "one", "s3_main", 1),
        ("part sent", "two", "azure_dr", 1),
        ("retry", "one", "s3_main", 1),
        ("retry", "two", "azure_dr", 1),
    ]
    assert "recording" not in lines[4]


def test_levels_are_ours_and_each_librarys_own_and_follow_a_reload(written: io.StringIO) -> None:
    def shown() -> list[str]:
        written.seek(0)
        written.truncate()
        for name in ("uploaderd.worker", "azure.core", "botocore"):
            for level in ("debug", "info", "warning"):
                getattr(logging.getLogger(name), level)("x")
        return [
            f"{each['logger']} {each['level']}" for each in map(json.loads, written.getvalue().splitlines())
        ]

    configure(level="info", levels={"azure": "debug"}, stream=written)
    assert shown() == [
        "uploaderd.worker info",
        "uploaderd.worker warning",
        "azure.core debug",
        "azure.core info",
        "azure.core warning",
        "botocore warning",
    ]
    configure(level="error", levels={"botocore": "info"}, stream=written)
    assert shown() == ["azure.core warning", "botocore info", "botocore warning"]
    with pytest.raises(ValueError, match="'loud' is not a log level; one of: debug, info"):
        configure(level="loud", stream=written)


def test_a_logger_that_was_used_follows_a_reload() -> None:
    before, after = io.StringIO(), io.StringIO()
    log = get_logger("uploaderd")
    configure(stream=before)
    log.info("one")
    handlers = list(logging.getLogger().handlers)
    configure(stream=after, form="console")
    assert logging.getLogger().handlers == handlers, "at no moment is there none"
    log.info("two")
    assert json.loads(before.getvalue())["event"] == "one"
    assert after.getvalue().count("two") == 1
    assert not after.getvalue().startswith("{")


def test_a_line_stays_json_where_a_secret_is_met_across_an_escape(written: io.StringIO) -> None:
    register_secret("nabcdef")
    get_logger("uploaderd").info("first\nabcdef")  # in JSON: first\\nabcdef, which spells the secret
    assert "nabcdef" not in written.getvalue()
    assert (
        line(written)["event"]
        == "a line was withheld: without a secret that it spelled it was no longer JSON"
    )


def test_a_line_that_cannot_be_formatted_does_not_print_its_arguments(
    written: io.StringIO, alone: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    alone()
    logging.getLogger("library").error("%d bytes", SECRET)
    assert SECRET not in written.getvalue() + "".join(capfd.readouterr())
    assert line(written)["event"] == "a log line could not be written"


class _Broken(io.StringIO):
    """Takes nothing in which `refused` stands."""

    refused = "unlucky"

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        if self.refused in text:
            raise self._error
        return super().write(text)


@pytest.mark.parametrize("logger", ["ours", "library's"])
@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError(SECRET), ["a log line could not be written"]), (OSError(SECRET), [])],
    ids=["the line's fault", "stderr is gone"],
)
def test_a_line_that_cannot_be_written_is_no_trouble_to_who_wrote_it(
    alone: Callable[[], None], logger: str, error: Exception, told: list[str]
) -> None:
    alone()
    stream = _Broken(error)
    setup.configure(stream=stream)
    if logger == "ours":
        get_logger("uploaderd").error("unlucky", secret=SECRET)
    else:
        logging.getLogger("library").error("unlucky %s", SECRET)
    assert SECRET not in stream.getvalue()
    assert [json.loads(text)["event"] for text in stream.getvalue().splitlines()] == told
    get_logger("uploaderd").info("the next")
    assert stream.getvalue().count("the next") == 1


def test_an_object_with_a_broken_repr_does_not_lose_the_line(
    written: io.StringIO, alone: Callable[[], None]
) -> None:
    alone()

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError(SECRET)

    itself: list[object] = [Broken(), float("inf")]
    itself.append(itself)
    get_logger("uploaderd").info("kept", value=itself)
    assert line(written)["value"][:2] == ["<Broken, whose repr raised RuntimeError>", "inf"]


def test_a_crash_is_a_log_line_and_masked() -> None:
    code = (
        "from uploaderd.logs import register_secret; from uploaderd.logs.setup import configure\n"
        "import sys, threading\n"
        f"register_secret({SECRET!r}); configure()\n"
        "def fail(): raise RuntimeError(sys.argv[1])\n"
        "thread = threading.Thread(target=fail, name='ledger'); thread.start(); thread.join()\n"
        "fail()"
    )
    done = subprocess.run([sys.executable, "-c", code, SECRET], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    thread, main = (json.loads(each) for each in done.stderr.splitlines())
    assert (thread["level"], thread["thread"]) == ("critical", "ledger")
    assert main["exception"].endswith("RuntimeError: ***")
    assert "RuntimeError: ***" in thread["exception"]


@pytest.mark.parametrize("no_color", [True, False])
def test_on_a_terminal_lines_are_for_people_and_coloured_unless_refused(no_color: bool) -> None:
    code = (
        "from uploaderd.logs.setup import configure, get_logger; configure()\n"
        "get_logger('uploaderd').info('a \\x1b[2J name', path='a b', n=1)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", code],
            stderr=theirs,
            env=environment | ({"NO_COLOR": "1"} if no_color else {}),
            check=True,
        )
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("\x1b[" in shown) is not no_color
    assert "\x1b[2J" not in shown
    if no_color:
        assert "[info     ] a \\x1b[2J name [uploaderd] path='a b' n=1" in shown


def test_masking_alone_does_not_import_structlog() -> None:
    code = "import uploaderd.logs, sys; sys.exit('structlog' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rich_is_kept_from_the_log_and_from_nobody_else() -> None:
    """Its tracebacks print local variables."""
    code = (
        "import sys; import uploaderd.daemon; loaded = 'rich' in sys.modules;"
        " import rich.live, structlog; sys.exit(loaded or structlog.dev.rich is not None)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_the_mask_leaves_is_not_another_secret() -> None:
    register_secret("****")
    register_secret("leaked")
    register_secret("xleakedx")
    assert mask("*" * 40) == "***"
    assert mask("le***aked-xleakedx-leakleaked") == "le***aked-***-leak***"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_rule_is_spared_a_text_that_it_matches(data: st.DataObject) -> None:
    """`mask` looks closely only at what its first glance suspects."""
    pattern, _ = data.draw(st.sampled_from(secrets._RULES))
    text = data.draw(st.from_regex(pattern))
    assert secrets._SUSPECT.search(text)
