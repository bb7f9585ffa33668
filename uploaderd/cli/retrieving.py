"""`uploaderd url`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from uploaderd.cli import completing, say
from uploaderd.cli.control import on_ledger, perform, quiet_logs, through_daemon
from uploaderd.cli.opened import configuration, ledger
from uploaderd.cli.options import ConfigFile, SecretsDir, duration, examples, one_of
from uploaderd.report.lines import span

if TYPE_CHECKING:
    from uploaderd.acts.orders import Url
    from uploaderd.config import Config

EXAMPLES: Final = examples(
    "uploaderd url cam1/18-00.mp4              good for an hour",
    "uploaderd url 18-00.mp4 | xargs curl -O",
    "uploaderd url 18-00.mp4 --provider azure_dr --expires 7d",
    "uploaderd url --key cameras/2026/11/20/18-00.mp4",
)

SLACK: Final = 60.0
"""Seconds by which it may be shorter than asked for without a word."""


def url(
    context: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATH]",
            help="Of a recording: absolute, relative to its source, a unique part of its name, or its id.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Instead: any object's whole key; no ledger is needed."),
    ] = None,
    expires: Annotated[str, typer.Option(metavar="D", help="How long it is to be good for, at most.")] = "1h",
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=completing.providers, help="Ask only this one.", show_default=False
        ),
    ] = None,
    secrets_dir: SecretsDir = None,
    config: ConfigFile = None,
) -> None:
    """Print a URL that anyone can read the recording with until it expires.

    From the first provider, in `retrieval_order`, that answers within half a second and has it. Signed; or
    plain, where `public_url` is set, and for a directory. Nothing else is printed to stdout: who gave it and
    when it ends is said on stderr. Exit 1 if nobody has it; 69 if no provider answers.
    """
    from uploaderd.acts.orders import Url

    seconds = duration(expires)
    if seconds < 1:
        raise typer.BadParameter("--expires must be a second or more")
    if (path is None) == (key is None):
        raise typer.BadParameter("give either a PATH or a --key")
    loaded = configuration(context, config)
    one_of(provider, loaded.providers, "provider")

    def alone() -> Mapping[str, Any]:
        whole = configuration(context, config, complete=True, secrets_dir=secrets_dir)
        return _by_key(whole, order) if key is not None else on_ledger(whole, order, lambda _: None)

    if path is not None:
        order = Url(seconds, recording=_recording(loaded, path), provider=provider)
        done = perform(loaded, order, alone=alone)
    else:
        from uploaderd.ledger.lock import holder

        order = Url(seconds, key=key, provider=provider)
        held_by = holder(loaded.ledger.path)
        done = through_daemon(loaded, held_by, order, lambda _: None) if held_by is not None else alone()
    say.data(done["url"])
    for line in _told(done, seconds):
        say.message(line)


def _recording(config: Config, wanted: str) -> str:
    """The recording's id.

    Raises:
        Unknown, Ambiguous: as `lookup.one`.
    """
    from uploaderd.report import lookup

    with ledger(config) as conn:
        return lookup.one(conn, config, wanted).id


def _by_key(config: Config, order: Url) -> Mapping[str, Any]:
    from uploaderd.acts.retrieval import url_of_key
    from uploaderd.cli import ending
    from uploaderd.clock import SystemClock

    quiet_logs(config)
    return ending.run(url_of_key(order, config, SystemClock()))


def _told(done: Mapping[str, Any], wanted: float) -> list[str]:
    """Whose it is, and for how long."""
    ends = done["expires_at"]
    if ends is None:
        lines = [f"from {done['provider']}; it is not signed, and does not expire"]
    else:
        left = (datetime.fromisoformat(ends) - datetime.now(UTC)).total_seconds()
        lines = [f"from {done['provider']}; good until {ends} ({span(left)})"]
        if left < wanted - SLACK:
            lines.append(f"that is less than the {span(wanted)} asked for: its login signs for no longer")
    if done["archived"]:
        lines.append("it is in an archive tier: it cannot be read until it has been restored from there")
    return lines
