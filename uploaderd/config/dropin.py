"""The variables of recorders that upload by themselves, so that their image can be swapped for this one.

Without a configuration file they alone are the configuration, once one of them names a bucket or a
container (an access key alone says nothing of where recordings should go). Their meaning is that of
the systems that read them: an object's key is the file's bare name. docs/drop-in.md has the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from uploaderd.config.layers import Layer
from uploaderd.config.whole import Key, Switches

MODE: Final = "STORAGE_UPLOAD_MODE"
FOLDER: Final = "RECORDINGS_DIR"
KINDS: Final = ("s3", "azure", "gcs")

_MODES: Final[Mapping[str, tuple[str, ...]]] = {"both": ("s3", "azure"), "all": KINDS}
_BUCKET: Final = "AWS_RECORDING_STORAGE_BUCKET_NAME"
_CONTAINER: Final = "AZURE_STORAGE_CONTAINER_NAME"
_GCS_BUCKET: Final = "GCS_BUCKET_NAME"
_ACCOUNT: Final = "AZURE_STORAGE_ACCOUNT_NAME"
_CONNECTION: Final = "AZURE_STORAGE_CONNECTION_STRING"
_NEEDS: Final = {
    "s3": (_BUCKET,),
    "azure": (_CONTAINER, f"{_ACCOUNT} or {_CONNECTION}"),
    "gcs": (_GCS_BUCKET,),
}
"""Variables without which a provider cannot be; the place's own first."""
_TAVUS_BUCKET: Final = "TAVUS_RECORDING_S3_BUCKET_NAME"
_TAVUS_ON: Final = "TAVUS_ENABLE_RECORDING"
_USE_GCS: Final = "GCP_STORAGE_USE_GCS"

_DEBUG: Final = "debug_screen_recording_*.mp4"

NAMES: Final = frozenset({*KINDS, "tavus", "recordings", "debug_recordings"})
"""The sources and providers that these variables make."""


@dataclass(frozen=True, slots=True)
class DropIn:
    """What the variables say. `names_place`: a bucket or a container is among them."""

    layer: Layer
    switches: Switches
    names_place: bool


def of_dropin(env: Mapping[str, str], given: Callable[[Key], bool]) -> DropIn | None:
    """What the variables say; None if they say nothing of where recordings should go.

    A mode without any bucket is faults too, with `names_place` false: there is nothing to start with.
    `given` tells whether a key has a value from elsewhere.
    """
    said = _Said(env, given)
    places = {kind: said.text(variables[0]) for kind, variables in _NEEDS.items()}
    tavus = said.flag(_TAVUS_ON, default=False)
    names_place = any(places.values()) or (tavus and bool(said.text(_TAVUS_BUCKET)))
    if not names_place and not said.text(MODE):
        return None
    wanted = _wanted(said, tavus=tavus)
    for kind, put in (("s3", _s3), ("azure", _azure), ("gcs", _gcs)):
        if kind not in wanted:
            said.switches.off[kind] = _why_off(said, kind)
            continue
        said.switches.on[kind] = wanted[kind]
        for variables in _NEEDS[kind]:
            said.needs(variables, f"{wanted[kind]} wants {kind}{_instead(said, places)}")
        put(said)
    _tavus(said, on=tavus)
    _sources(said)
    return DropIn(said.layer, said.switches, names_place)


class _Said:
    """The variables, and what they come to. An empty one counts as unset."""

    def __init__(self, env: Mapping[str, str], given: Callable[[Key], bool]) -> None:
        self._env = env
        self._given = given
        self.layer = Layer()
        self.switches = Switches()

    def text(self, variable: str) -> str:
        return self._env.get(variable, "").strip()

    def fault(self, message: str) -> None:
        self.layer.faults.append(message)

    def needs(self, variables: str, why: str) -> None:
        """A fault, unless one of them (`A or B`) is set."""
        either = variables.split(" or ")
        if not any(map(self.text, either)):
            self.fault(f"environment {either[0]}: is missing{self._others(either)}; {why}")

    @staticmethod
    def _others(either: list[str]) -> str:
        return "".join(f", and so is {other}" for other in either[1:])

    def given(self, key: str, variable: str) -> bool:
        """Whether a key has a value: the variable's, or one from elsewhere."""
        return bool(self.text(variable)) or self._given(_key(key))

    def put(self, key: str, variable: str, value: object = None) -> None:
        """Set `providers.s3.bucket`, or whichever key, to the variable's value, if it has one."""
        if value is None:
            value = self.text(variable) or None
        if value is not None:
            self.layer.put(_key(key), value, f"environment {variable}")

    def fixed(self, key: str, value: object, why: str = "as those systems do") -> None:
        """Set a key to what no variable says."""
        self.layer.put(_key(key), value, why)

    def flag(self, variable: str, *, default: bool) -> bool:
        """A truth value, in any of the usual words."""
        text = self.text(variable).lower()
        if text in ("true", "1", "yes", "on"):
            return True
        if text in ("false", "0", "no", "off", ""):
            return False if text else default
        self.fault(f'environment {variable}: must be "true" or "false"')
        return default

    def seconds(self, variable: str) -> str | None:
        """A number of seconds, or a duration with a unit, as a duration."""
        text = self.text(variable)
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            return f"{text}s"
        return text or None

    def count(self, variable: str) -> int | str | None:
        text = self.text(variable)
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text or None


def _key(dotted: str) -> Key:
    return tuple(dotted.split("."))


def _wanted(said: _Said, *, tavus: bool) -> dict[str, str]:
    """The kinds of provider that are switched on, each with what did it."""
    mode, use_gcs = said.text(MODE).lower(), said.text(_USE_GCS)
    wanted: dict[str, str] = {}
    words = [word for part in mode.split(",") if (word := part.strip())]
    kinds = [kind for word in words for kind in _MODES.get(word, (word,))]
    if set(kinds) <= set(KINDS) and (words or not mode):
        wanted |= dict.fromkeys(kinds, f"{MODE}={mode}")
    else:
        said.fault(f"environment {MODE}: must be s3, azure, gcs, both, all, or several with commas")
    if said.flag(_USE_GCS, default=False):
        wanted.setdefault("gcs", f"{_USE_GCS}={use_gcs}")
    elif use_gcs and "gcs" in wanted:
        said.fault(f"environment {_USE_GCS}: is {use_gcs}, and {wanted['gcs']} wants gcs; change one of them")
    # The default is a wish of nobody's: whoever has switched on another provider need not have S3 too.
    if not mode and (said.text(_BUCKET) or not (tavus or wanted)):
        wanted["s3"] = f"the default {MODE}=s3"
    return wanted


def _why_off(said: _Said, kind: str) -> str:
    mode = said.text(MODE)
    if mode:
        return f"{MODE}={mode}"
    return f"{MODE} is not set" if kind != "gcs" else f"neither {MODE} nor {_USE_GCS} wants it"


def _instead(said: _Said, places: Mapping[str, str]) -> str:
    others = [kind for kind, place in places.items() if place]
    return f"; or set {MODE}={','.join(others)}" if others and not said.text(MODE) else ""


def _s3(said: _Said) -> None:
    said.put("providers.s3.type", _BUCKET, "s3")
    said.put("providers.s3.bucket", _BUCKET)
    said.put("providers.s3.region", "AWS_DEFAULT_REGION")
    said.put("providers.s3.endpoint_url", "AWS_ENDPOINT_URL")
    _key_pair(said, "s3")


def _tavus(said: _Said, *, on: bool) -> None:
    """A bucket of its own, usually of another account: hence the role. Always at Amazon."""
    if not on:
        said.switches.off["tavus"] = f"{_TAVUS_ON} is not true"
        return
    if not said.text(_TAVUS_BUCKET):
        said.needs(_TAVUS_BUCKET, f"{_TAVUS_ON} wants it")
        return
    said.switches.on["tavus"] = f"{_TAVUS_ON}={said.text(_TAVUS_ON)}"
    said.put("providers.tavus.type", _TAVUS_BUCKET, "s3")
    said.put("providers.tavus.bucket", _TAVUS_BUCKET)
    said.put("providers.tavus.region", "TAVUS_RECORDING_S3_BUCKET_REGION")
    said.put("providers.tavus.assume_role_arn", "TAVUS_AWS_ASSUME_ROLE_ARN")
    _key_pair(said, "tavus")


def _key_pair(said: _Said, name: str) -> None:
    """Without a key: the usual chain (instance, container and web identity roles)."""
    halves = ("access_key_id", "AWS_ACCESS_KEY_ID"), ("secret_access_key", "AWS_SECRET_ACCESS_KEY")
    there = [said.given(f"providers.{name}.{key}", variable) for key, variable in halves]
    if any(there) and not all(there):
        here, missing = halves[there.index(True)][1], halves[there.index(False)][1]
        said.fault(f"environment {missing}: is missing beside {here}")
    said.put(f"providers.{name}.access_key_id", "AWS_ACCESS_KEY_ID")
    said.put(f"providers.{name}.secret_access_key", "AWS_SECRET_ACCESS_KEY")
    said.put(f"providers.{name}.session_token", "AWS_SESSION_TOKEN")


def _azure(said: _Said) -> None:
    said.put("providers.azure.type", _CONTAINER, "azure")
    said.put("providers.azure.container", _CONTAINER)
    said.put("providers.azure.account", _ACCOUNT)
    said.put("providers.azure.connection_string", _CONNECTION)
    if said.text(_CONNECTION) and said.text("AZURE_STORAGE_ACCOUNT_KEY"):
        said.switches.unused.append("AZURE_STORAGE_ACCOUNT_KEY: AZURE_STORAGE_CONNECTION_STRING is the login")
    else:
        said.put("providers.azure.account_key", "AZURE_STORAGE_ACCOUNT_KEY")


def _gcs(said: _Said) -> None:
    said.put("providers.gcs.type", _GCS_BUCKET, "gcs")
    said.put("providers.gcs.bucket", _GCS_BUCKET)
    said.put("providers.gcs.credentials_file", "GOOGLE_APPLICATION_CREDENTIALS")
    if said.text("GCP_STORAGE_AUTO_UPLOAD"):
        auto = said.flag("GCP_STORAGE_AUTO_UPLOAD", default=True)
        said.put("providers.gcs.auto_upload", "GCP_STORAGE_AUTO_UPLOAD", auto)
    for key, variable in (
        ("attempt_timeout", "GCP_STORAGE_UPLOAD_TIMEOUT"),
        ("retry_delay", "GCP_STORAGE_RETRY_DELAY"),
    ):
        said.put(f"providers.gcs.{key}", variable, said.seconds(variable))
    said.put(
        "providers.gcs.trouble_after", "GCP_STORAGE_RETRY_ATTEMPTS", said.count("GCP_STORAGE_RETRY_ATTEMPTS")
    )


def _sources(said: _Said) -> None:
    """Two of the same folder: what a debugging session leaves, and everything else.

    A recorder that replaces its file after remuxing it has the same key hold the newer one. Not where files
    are removed: a name that comes again there is another recording, and the object the first one's only copy.
    """
    cleanup = said.flag("GCP_STORAGE_CLEANUP_LOCAL", default=False)
    removes = cleanup and "gcs" in said.switches.on
    if not removes:
        for name in said.switches.on:
            said.fixed(f"providers.{name}.on_new_version", "replace")
    for name in ("debug_recordings", "recordings"):
        if said.text(FOLDER):
            said.put(f"sources.{name}.path", FOLDER)
        else:
            said.fixed(f"sources.{name}.path", "recordings", f"{FOLDER} is not set")
        said.fixed(f"sources.{name}.key", "{name}")
        if removes:
            said.put(f"sources.{name}.cleanup.policy", "GCP_STORAGE_CLEANUP_LOCAL", "delete-when-safe")
            said.fixed(f"sources.{name}.cleanup.keep_for", "0s")
    said.fixed("sources.debug_recordings.include", [f"**/{_DEBUG}"])
    if cleanup and not removes:
        said.switches.unused.append("GCP_STORAGE_CLEANUP_LOCAL: gcs is off")
