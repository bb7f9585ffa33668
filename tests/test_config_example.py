"""config.example.toml and docs/configuration.md leave no key out, and say nothing that is not so.

`python -m tests.test_config_example` writes the tables of docs/configuration.md anew.
"""

import re
from pathlib import Path

from pydantic import BaseModel

from uploaderd.config import load
from uploaderd.config.refusals import _type
from uploaderd.config.show import _toml
from uploaderd.config.slots import ROOT, Models, every
from uploaderd.config.whole import Config, Key

ROOT_DIRECTORY = Path(__file__).parent.parent
EXAMPLE = ROOT_DIRECTORY / "config.example.toml"
REFERENCE = ROOT_DIRECTORY / "docs" / "configuration.md"
MARK = "<!-- The rest is made from the models: python -m tests.test_config_example -->\n"
COMMENTED = re.compile(r"# (\[[a-z0-9_.]+\].*|[a-z_]+ = .*)")


def uncommented() -> str:
    lines = []
    for line in EXAMPLE.read_text().splitlines():
        match = COMMENTED.fullmatch(line)
        lines.append(match[1] if match else line)
    return "\n".join(lines)


def of_type(key: Key, config: Config) -> Key:
    """("providers", "nas", "path") -> ("providers", "directory", "path"); the name of a source -> "*"."""
    if key[0] == "providers":
        return (key[0], config.providers[key[1]].type, *key[2:])
    return (key[0], "*", *key[2:]) if key[0] in ("sources", "webhooks") else key


def test_the_example_loads_as_it_is() -> None:
    config = load(EXAMPLE, env={})
    assert list(config.sources) == ["cameras"]
    assert list(config.providers) == ["s3_main"]


def test_the_example_leaves_no_key_out(tmp_path: Path) -> None:
    """With every line uncommented it loads too; and then each key has been given."""
    path = tmp_path / "config.toml"
    path.write_text(uncommented())
    config = load(path, env={})
    given = set()
    for key in config._origins:
        if config.origin(key) == str(path):
            given |= {of_type(key, config)[:length] for length in range(1, len(key) + 1)}
    known = set()
    for key, _, models in every():
        if key[0] == "providers":
            known |= {("providers", _type(model), *key[2:]) for model in models}
        else:
            known.add(key)
    # What all providers have is shown once, with the first; what those over HTTP have, with another.
    first = {key[2:] for key in given if key[:2] == ("providers", "s3")}
    common = {("providers", kind, *key) for key in first for kind in ("azure", "gcs", "directory")}
    own = {key for key in known if key not in common}
    assert sorted(own - given) == []


def test_each_key_of_the_example_has_a_comment_of_its_own() -> None:
    """The first time that it appears; a second table of the same type need not repeat it."""
    explained: set[str] = set()
    for line in EXAMPLE.read_text().splitlines():
        if match := re.match(r"#? ?([a-z_]+) = (?:.*?)(  # \S.*)?$", line):
            key, comment = match.groups()
            if comment:
                explained.add(key)
    speak_for_themselves = {
        "type",
        "access_key_id",
        "tenant_id",
        "client_secret",
        "connection_string",
        "account_key",
        "sas_token",
    }
    keys = {key[-1] for key, *_ in every()} - speak_for_themselves
    assert sorted(keys - explained) == []


def reference() -> str:
    """The tables of docs/configuration.md: one for each of the file's, with key, default and meaning."""
    tables: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for key, _, models in every():
        for name, text, model in _titles(key, models):
            texts[name] = text
            tables.setdefault(name, []).append(_row(key, model))
    return "\n".join(
        f"### {name}\n\n{texts[name]}\n\n| key | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        for name, rows in tables.items()
    )


def _titles(key: Key, models: Models) -> list[tuple[str, str, type[BaseModel]]]:
    """Where a key is shown: the table's title, what the table is, and the class that has the key."""
    table = "[" + ".".join(key[:-1]).replace("*", "NAME") + "]"
    if key[0] != "providers":
        return [(f"`{table}`", _first_line(models[0]), models[0])]
    match len(models):
        case 4:
            return [(f"`{table}`: every provider", "What every provider has.", models[0])]
        case 3:
            return [
                (
                    f"`{table}`: s3, azure, gcs",
                    "What every provider that is reached over HTTP has.",
                    models[0],
                )
            ]
    return [(f'`{table}` with `type = "{_type(model)}"`', _first_line(model), model) for model in models]


def _first_line(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _row(key: Key, model: type[BaseModel]) -> str:
    name = key[-1]
    if name == "type":
        return "| `type` | must be given | `s3`, `azure`, `gcs` or `directory`. |"
    field = model.model_fields[name]
    assert field.description, f"{key} has no description"
    if field.is_required():
        default = "must be given"
    elif key in (("ledger", "path"), ("web", "socket")):  # depends on where it runs; the text says how
        default = "see there"
    else:
        values = {other: f.get_default() for other, f in model.model_fields.items() if not f.is_required()}
        shown = model.model_construct(**values).model_dump(mode="json", include={name})[name]
        default = "" if shown in (None, {}, [], "") else f"`{_toml(shown)}`"
    return f"| `{name}` | {default} | {field.description} |".replace("|  |", "| |")


def test_the_reference_is_what_the_models_say() -> None:
    _, mark, tables = REFERENCE.read_text().partition(MARK)
    assert mark
    assert tables == "\n" + reference(), "run: python -m tests.test_config_example"


def test_every_table_is_in_the_reference() -> None:
    assert all(f"`[{table}" in reference() for table in ROOT.known)


if __name__ == "__main__":
    said, mark, _ = REFERENCE.read_text().partition(MARK)
    REFERENCE.write_text(said + mark + "\n" + reference())
