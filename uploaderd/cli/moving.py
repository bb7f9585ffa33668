"""`uploaderd backfill` and `retire`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from uploaderd.cli import completing, exits, say
from uploaderd.cli.control import on_ledger, perform
from uploaderd.cli.opened import configuration, ledger
from uploaderd.cli.options import ConfigFile, SecretsDir, examples, one_of
from uploaderd.cli.progress import Seen, shown
from uploaderd.report.lines import count, size

if TYPE_CHECKING:
    from uploaderd.acts.orders import Order
    from uploaderd.cli.control import Progress

BACKFILL_EXAMPLES: Final = examples(
    "uploaderd backfill azure_dr                    all that is there goes to it as well",
    "uploaderd backfill azure_dr --source cameras",
    "uploaderd backfill azure_dr --required         and is not safe before it has got there",
)
RETIRE_EXAMPLES: Final = examples(
    "uploaderd retire nas                           once nothing needs it any more",
)

ProviderName = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER",
        autocompletion=completing.providers,
        help="As the configuration names it.",
        show_default=False,
    ),
]


def backfill(
    context: typer.Context,
    provider: ProviderName,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.sources,
            help="Only recordings of this source.",
            show_default=False,
        ),
    ] = None,
    required: Annotated[
        bool,
        typer.Option(
            "--required", help="Each needs one copy more from now on: it waits, and its file stays."
        ),
    ] = False,
    secrets_dir: SecretsDir = None,
    config: ConfigFile = None,
) -> None:
    """Queue the recordings of before for a provider that was added later.

    All whose local file is still there, of the sources that go to that provider. Without --required the copy
    is one to spare: they stay as safe as they are, and cleanup does not wait for it. Exit 1 if some cannot
    be sent: their file is gone, or no key of their own can be made.
    """
    from uploaderd.acts.orders import Backfill

    loaded = configuration(context, config)
    one_of(provider, loaded.providers, "provider")
    one_of(source, loaded.sources, "source")
    order = Backfill(provider, source, required)
    with shown() as show:

        def progress(how_far: Mapping[str, Any]) -> None:
            show(Seen(how_far["added"], how_far["added"], "queued"))

        done = _perform(context, config, order, secrets_dir, progress)
    say.data(f"{count(done['added'], 'recording')} queued for {provider}, {size(done['bytes'])}")
    for number, why, hint in (
        (done["gone"], "cannot be sent: the local file is gone", ""),
        (done["taken"], "cannot be sent: the key is another recording's there", "see the source's `key`"),
        (done["refused"], f"cannot be sent: no key can be made that {provider} takes", ""),
    ):
        if number:
            say.error(f"{count(number, 'recording')} {why}", hint)
    if done["gone"] or done["taken"] or done["refused"]:
        raise typer.Exit(exits.PROBLEMS)


def retire(
    context: typer.Context,
    provider: ProviderName,
    force: Annotated[bool, typer.Option("--force", help="Even though something needs it.")] = False,
    secrets_dir: SecretsDir = None,
    config: ConfigFile = None,
) -> None:
    """End a provider for good. It must not be in use any more: disabled, or its table removed.

    Nothing becomes safe by that: a recording that waits for a copy there has failed. It is refused while
    something needs the provider, unless --force is given. Its copies are left alone. The name cannot be
    used again.
    """
    from uploaderd.acts.orders import Retire

    loaded = configuration(context, config)
    with ledger(loaded) as conn:
        from uploaderd.ledger import read

        one_of(provider, [row.name for row in read.providers(conn)], "provider")
    done = _perform(context, config, Retire(provider, force), secrets_dir, lambda _: None)
    unmade = f"; {count(done['ended'], 'upload')} to it will not be made" if done["ended"] else ""
    say.data(f"{provider} is retired{unmade}")
    if done["waiting"]:
        say.message(
            f"{count(done['waiting'], 'recording')} waited for a copy there, and may have failed:"
            " `uploaderd list --state failed`"
        )
    if done["only"]:
        only = count(done["only"], "recording")
        say.message(f"keep what is there: it is the only verified copy of {only}")
    if done["left"]:
        say.message(
            f"{count(done['left'], 'half-done upload')} could not be aborted there: have its own rules or"
            " tools remove them"
        )


def _perform(
    context: typer.Context,
    config: ConfigFile,
    order: Order,
    secrets_dir: SecretsDir,
    progress: Progress,
) -> Mapping[str, Any]:
    def alone() -> Mapping[str, Any]:
        # Keys and addresses may be made of what only the whole configuration has.
        whole = configuration(context, config, complete=True, secrets_dir=secrets_dir)
        return on_ledger(whole, order, progress)

    return perform(configuration(context, config), order, progress, alone)
