"""From file, secret files and environment to a checked `Config`, or to everything that is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from uploaderd.config import layers, refusals
from uploaderd.config.contradictions import contradictions, lacks
from uploaderd.config.dropin import NAMES, DropIn, of_dropin
from uploaderd.config.errors import ConfigError, NoConfigurationError
from uploaderd.config.faults import written
from uploaderd.config.layers import Layer
from uploaderd.config.secret_files import SecretFiles
from uploaderd.config.whole import Config, Key, Switches


def load(
    path: Path | None,
    *,
    env: Mapping[str, str] = os.environ,
    secrets_dir: Path | None = None,
    quickstart: bool = False,
    complete: bool = True,
) -> Config:
    """Read the configuration and check all that the machine alone can decide.

    What overrides what: the environment, `secrets_dir`, `$CREDENTIALS_DIRECTORY`, the file, defaults.
    Relative paths, wherever they are written, are relative to the file's folder; without a file, to the
    current one.

    Args:
        path: the file; None looks in the usual places.
        env: the environment.
        secrets_dir: where secret files are, besides `$CREDENTIALS_DIRECTORY`.
        quickstart: look for no file; watch ./recordings, copy into ./uploaded, keep ./uploaderd.db.
        complete: also demand what the daemon's own surroundings bring: secrets, and variables that keys
            take up. False for what only reads the ledger: `status` is run by people who have neither.

    Raises:
        ConfigError: with one message per fault.
        NoConfigurationError: there is none to read.
    """
    file = None if quickstart else _find(path, env)
    if quickstart and path is not None:
        raise ConfigError([f"--quickstart needs no file, and was given {path}; leave one of them out"])
    base = file.parent if file else Path.cwd()
    written_down = layers.of_file(file) if file else _quickstart() if quickstart else Layer()

    over: list[Layer] = [layers.of_environment(env, written_down)]
    directories = (
        secrets_dir,
        Path(env["CREDENTIALS_DIRECTORY"]) if env.get("CREDENTIALS_DIRECTORY") else None,
    )
    secret_files = SecretFiles.of(directory for directory in directories if directory)
    over += [layers.of_secret_files(directory, written_down) for directory in secret_files.folders]
    over.append(written_down)

    switches: Switches | None = None
    if not file and not quickstart:
        dropin = _dropped_in(over, env, complete=complete)
        if dropin is not None:
            over.append(dropin.layer)
            switches = dropin.switches
    for layer in over:
        layers.make_absolute(layer, base, env.get("HOME"))
    over += [_surroundings(over, env), _draining(over)]
    config = _checked(over, file, env if complete else None)
    config.switched_by(switches)
    config.kept_secret_in(secret_files)
    return config


def _dropped_in(over: Sequence[Layer], env: Mapping[str, str], *, complete: bool) -> DropIn | None:
    """Without a file: what other systems' variables say, unless ours name sources and providers of their own.

    Raises:
        NoConfigurationError: neither do.
        ConfigError: theirs are wrong; or neither do, and ours are wrong.
    """

    def given(key: Key) -> bool:
        # Of whoever only reads the ledger no secret is asked for.
        return not complete or any(layer.get(key) for layer in over)

    named = {name for layer in over for table in ("sources", "providers") for name in layer.names(table)}
    if named - NAMES:
        return None
    dropin = of_dropin(env, given)
    if dropin is not None and dropin.names_place:
        if dropin.layer.faults:
            raise ConfigError(dropin.layer.faults)
        return dropin
    if named:
        return None
    if faults := [fault for layer in over for fault in layer.faults]:
        raise ConfigError(faults)
    raise NoConfigurationError(dropin.layer.faults if dropin is not None else [_nothing(env)])


def _find(path: Path | None, env: Mapping[str, str]) -> Path | None:
    """The file that was named, or the first of the usual ones that exists."""
    if path is not None:
        return path.absolute()
    if env.get(layers.CONFIG_VARIABLE):
        return Path(env[layers.CONFIG_VARIABLE]).absolute()
    # `exists` is false for a folder that may not be entered, too: not ours, then.
    return next((usual for usual in _usual(env) if os.path.exists(usual)), None)


def _usual(env: Mapping[str, str]) -> Iterator[Path]:
    home = env.get("XDG_CONFIG_HOME") or (f"{env['HOME']}/.config" if env.get("HOME") else "")
    if home:
        yield Path(home) / "uploaderd" / "config.toml"
    yield Path("/etc/uploaderd/config.toml")


def _nothing(env: Mapping[str, str]) -> str:
    looked = "".join(f"\n  {usual}: not there" for usual in _usual(env))
    return (
        "there is no configuration. Looked for:\n  --config: not given\n  $UPLOADERD_CONFIG: not set"
        f"{looked}\nWrite one (config.example.toml shows every key), or try `uploaderd run"
        " --quickstart`, which needs none:"
        " it watches ./recordings, copies into ./uploaded and keeps its ledger in ./uploaderd.db."
        " Variables such as AWS_RECORDING_STORAGE_BUCKET_NAME do as well (docs/drop-in.md)"
    )


def _quickstart() -> Layer:
    return layers.of_values(
        {
            "ledger": {"path": "uploaderd.db"},
            "web": {"socket": "uploaderd.sock"},
            "sources": {"recordings": {"path": "recordings"}},
            "providers": {"uploaded": {"type": "directory", "path": "uploaded"}},
        },
        "--quickstart",
    )


def _surroundings(over: Sequence[Layer], env: Mapping[str, str]) -> Layer:
    """Where the service manager wants things to be, for what nothing else says."""
    layer = Layer()
    ledger = next((str(found) for at in over if (found := at.get(("ledger", "path")))), None)
    if ledger is None:
        ledger = str(Config().ledger.path)
        if state := env.get("STATE_DIRECTORY"):
            # systemd lists several, with colons between; the first is ours.
            ledger = f"{state.partition(':')[0]}/{Path(ledger).name}"
            layer.put(("ledger", "path"), ledger, "$STATE_DIRECTORY")
    if runtime := env.get("RUNTIME_DIRECTORY"):
        layer.put(("web", "socket"), f"{runtime.partition(':')[0]}/control.sock", "$RUNTIME_DIRECTORY")
    else:
        layer.put(("web", "socket"), str(Path(ledger).parent / "control.sock"), "beside the ledger")
    return layer


def _draining(over: Sequence[Layer]) -> Layer:
    """Who drains expects the recorder's end as well, perhaps in mid-file: what it cut off is flagged.

    Each source is named, lowest layer first: the lowest of all decides their order.
    """
    layer = Layer()
    if next((how for at in over if (how := at.get(("daemon", "on_stop")))), None) == "drain":
        for name in (name for at in reversed(over) for name in at.names("sources")):
            layer.put(("sources", name, "container_check"), "warn", 'on_stop = "drain"')
    return layer


def _checked(over: Sequence[Layer], file: Path | None, env: Mapping[str, str] | None) -> Config:
    """The layers, merged by pydantic-settings and validated; `env` is None if it need not be complete."""
    origins: dict[Key, str] = {}
    for layer in reversed(over):
        origins |= layer.origins
    faults = [fault for layer in over for fault in layer.faults]
    try:
        config = Config(_build_sources=(tuple(over), {}))
    except ValidationError as error:
        names = {
            table: tuple(name for layer in over for name in layer.names(table)) for table in layers.NAMED
        }
        faults += [written(fault, origins=origins, file=file) for fault in refusals.faults(error, names)]
        raise ConfigError(faults) from None
    config.came_from(file, origins)
    wrong = [*contradictions(config), *(lacks(config, env) if env is not None else ())]
    faults += [written(fault, origins=origins, file=file) for fault in wrong]
    if faults:
        raise ConfigError(faults)
    return config
