"""docs/examples: valid by the vendors' own schemas, and with a configuration that uploaderd takes."""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.home.debian import ROOT, fetched
from uploaderd.config import Config, load

EXAMPLES = ROOT / "docs" / "examples"
SCHEMAS = ROOT / ".ci" / "schemas.lock"
KUBERNETES = ("1.29.0", "1.37.0")
"""The oldest with native sidecars, and the newest that there was a schema of."""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def packed(package: str) -> zipfile.ZipFile:
    (wheel,) = fetched("schemas", SCHEMAS).glob(f"{package}-*.whl")
    return zipfile.ZipFile(wheel)


# --- by the vendors ------------------------------------------------------------------------------


def test_compose() -> None:
    with packed("docker_compose") as wheel:
        schema = json.loads(wheel.read("compose/config/compose_spec.json"))
    jsonschema.validate(documents("compose.yaml")[0], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"uploaderd": {"immage": "x"}}}, schema)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", ["kubernetes-sidecar.yaml", "kubernetes-job.yaml"])
def test_kubernetes(name: str, version: str) -> None:
    """The strict schemas: they refuse a field that there is not."""
    with packed("kubernetes_validate") as wheel:
        for document in documents(name):
            validate(wheel, document, version)


def validate(wheel: zipfile.ZipFile, document: dict[str, Any], version: str) -> None:
    folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"
    definitions = json.loads(wheel.read(f"{folder}/_definitions.json"))
    group, _, api = document["apiVersion"].rpartition("/")
    kind = f"io.k8s.api.{group or 'core'}.{api}.{document['kind']}"
    jsonschema.validate(document, {**definitions, "$ref": f"#/$defs/{kind}"})


def test_kubernetes_schemas_would_refuse_what_is_wrong() -> None:
    wrong = documents("kubernetes-sidecar.yaml")
    wrong[1]["spec"]["initContainers"][0]["restartPolice"] = "Always"
    with (
        packed("kubernetes_validate") as wheel,
        pytest.raises(jsonschema.ValidationError, match="restartPolice"),
    ):
        validate(wheel, wrong[1], KUBERNETES[-1])


def test_the_sidecar_is_a_native_one() -> None:
    pod = documents("kubernetes-sidecar.yaml")[1]["spec"]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    for probe in ("startupProbe", "livenessProbe"):
        assert sidecar[probe]["exec"] == {"command": ["uploaderd", "status", "--alive"]}


def test_azure_container_apps() -> None:
    """By the classes of Azure's own library: it has no schema that could be read instead."""
    with packed("azure_mgmt_appcontainers") as wheel:
        models = Models(wheel)
    assert list(models.faults("ContainerApp", documents("azure-container-apps.yaml")[0], "")) == []


def test_azures_classes_would_refuse_what_is_wrong() -> None:
    with packed("azure_mgmt_appcontainers") as wheel:
        models = Models(wheel)
    wrong = {
        "properties": {
            "template": {
                "terminationGracePeriod": 600,
                "containers": [{"name": 1}],
                "volumes": [{"storageType": "Floppy"}],
            }
        }
    }
    assert list(models.faults("ContainerApp", wrong, "")) == [
        ".properties.template.terminationGracePeriod: unknown",
        ".properties.template.containers[0].name: not a str",
        ".properties.template.volumes[0].storageType: none of AzureFile, EmptyDir, Secret, NfsAzureFile",
    ]


_PLAIN: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}


class Models:
    """Classes of an Azure library: their fields' names on the wire, and the types of these."""

    def __init__(self, wheel: zipfile.ZipFile) -> None:
        models, enums = (
            wheel.read(f"azure/mgmt/appcontainers/models/{name}.py") for name in ("_models", "_enums")
        )
        self._fields: dict[str, dict[str, ast.expr]] = {}
        self._bases: dict[str, list[str]] = {}
        self._enums = {
            node.name: [
                str(line.value.value)
                for line in node.body
                if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
            ]
            for node in ast.parse(enums).body
            if isinstance(node, ast.ClassDef)
        }
        for node in ast.parse(models).body:
            if isinstance(node, ast.ClassDef):
                self._bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                self._fields[node.name] = dict(_fields(node))

    def faults(self, model: str, value: object, where: str) -> Iterator[str]:
        """What a document has that the class has not, and values of another type."""
        if not isinstance(value, dict):
            yield f"{where}: not a {model}"
            return
        fields = self._of(model)
        for name, below in value.items():
            if name not in fields:
                yield f"{where}.{name}: unknown"
            else:
                yield from self._typed(fields[name], below, f"{where}.{name}")

    def _of(self, model: str) -> dict[str, ast.expr]:
        fields: dict[str, ast.expr] = {}
        for base in self._bases.get(model, []):
            fields |= self._of(base)
        return fields | self._fields.get(model, {})

    def _typed(self, kind: ast.expr, value: object, where: str) -> Iterator[str]:
        match kind:
            case ast.Constant(value=str(name)):
                known = name.removeprefix("_models.")
                if known in self._enums:
                    if value not in self._enums[known]:
                        yield f"{where}: none of {', '.join(self._enums[known])}"
                else:
                    yield from self.faults(known, value, where)
            case ast.Name(id=name):
                if not isinstance(value, _PLAIN[name]):
                    yield f"{where}: not a {name}"
            case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
                yield from self._typed(inner, value, where)
            case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=[*_, last])):
                yield from self._typed(last, value, where)  # Union[str, "_models.SomeEnum"]
            case ast.Subscript(value=ast.Name(id="list"), slice=inner):
                assert isinstance(value, list), where
                for index, one in enumerate(value):
                    yield from self._typed(inner, one, f"{where}[{index}]")
            case _:
                raise AssertionError(f"{where} has a type that is not looked into: {ast.unparse(kind)}")


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for line in node.body:
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and isinstance(line.value, ast.Call)
        ):
            renamed = [word.value for word in line.value.keywords if word.arg == "name"]
            name = renamed[0].value if renamed and isinstance(renamed[0], ast.Constant) else line.target.id
            yield str(name), line.annotation


# --- by uploaderd --------------------------------------------------------------------------------


def containers(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What holds the containers (a pod, a template, ...), and each container of uploaderd in it."""
    if name == "compose.yaml":
        document = documents(name)[0]
        service = document["services"]["uploaderd"]
        return [(document, service)]
    found = []
    for document in documents(name):
        if document.get("kind") == "PersistentVolumeClaim":
            continue
        holder = document.get("spec") or document["properties"]
        holder = holder.get("template", holder)
        holder = holder.get("spec", holder)
        every = holder["containers"] + holder.get("initContainers", [])
        found += [(holder, one) for one in every if one["name"] == "uploaderd"]
    return found


def configured(container: dict[str, Any], secrets: Path) -> Config:
    env = container["environment" if "environment" in container else "env"]
    if isinstance(env, list):
        env = {one["name"]: one["value"] for one in env}
    (secrets / "providers__s3_main__secret_access_key").write_text("not-a-real-secret")
    here = {"CREDENTIALS_DIRECTORY": str(secrets)} if "CREDENTIALS_DIRECTORY" in env else {}
    image = {"STATE_DIRECTORY": "/var/lib/uploaderd", "RUNTIME_DIRECTORY": "/run/uploaderd"}
    image["UPLOADERD_DAEMON__ON_STOP"] = "drain"
    return load(None, env={**image, **env, **here})


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir()))
def test_its_configuration_is_taken_and_fits(name: str, tmp_path: Path) -> None:
    ((holder, container),) = containers(name)
    config = configured(container, tmp_path)
    assert config.providers
    assert [str(source.path) for source in config.sources.values()] == ["/recordings"]
    grace = holder.get("terminationGracePeriodSeconds") or 660  # compose.yaml writes 11m
    assert grace >= config.daemon.drain_timeout + config.daemon.shutdown_grace


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir()))
def test_recordings_and_ledger_outlive_the_container(name: str) -> None:
    ((_, container),) = containers(name)
    mounts = container.get("volumes") or container["volumeMounts"]
    if name == "compose.yaml":
        places = {mount.split(":")[1]: mount.split(":")[0] for mount in mounts}
    else:
        places = {mount["mountPath"]: mount.get("name") or mount["volumeName"] for mount in mounts}
    assert {"/recordings", "/var/lib/uploaderd"} <= places.keys()
    assert not {places["/recordings"], places["/var/lib/uploaderd"]} & {"run", "secrets"}
