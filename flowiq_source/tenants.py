"""Who the tenants are, what their pipelines are called, and how their secrets are found."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dlt
from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.common.runtime.collector_base import Collector

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.lock import sole
from flowiq_source.loading.undocumented import delete_at_once
from flowiq_source.settings import Settings, nearest
from flowiq_source.source import FlowiqSource, flowiq_source

_PLAIN = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_READABLE = 24
_SECRET_NAME = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)
_OF_OURS = ("secret", "dataset_name")
"""What is said of a tenant beside the settings of its source."""
_LAYOUT = "staging_dataset_name_layout"

current_tenant: ContextVar[str] = ContextVar("current_tenant", default="")
"""The tenant whose sync this thread works for, where several run."""


def tenant_suffix(tenant_id: str) -> str:
    """An ending for names, `_acme`, that no two tenants share; empty where there is no tenant.

    dlt folds what is not ASCII, and repeated underscores: two tenants would meet in one name. So
    what is not a plain name keeps its readable part and gets a short hash.
    """
    if not tenant_id or (_PLAIN.fullmatch(tenant_id) and len(tenant_id) <= _READABLE):
        return tenant_id and f"_{tenant_id}"
    readable = re.sub("[^a-z0-9]+", "_", tenant_id.lower())[:_READABLE].strip("_")
    digest = hashlib.sha256(tenant_id.encode()).hexdigest()[:8]
    return "_".join(["", *filter(None, [readable]), digest])


@dataclass(frozen=True)
class Tenant:
    """One of several: its id, the name of its secret, and settings that it alone has.

    `secret` is a name in dlt's configuration, such as `sources.flowiq.tokens.acme`, which a file,
    the variable `SOURCES__FLOWIQ__TOKENS__ACME` or a vault resolves. `settings` are arguments of
    `flowiq_source`; they go before those of dlt's configuration.
    """

    id: str
    secret: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset_name: str | None = None

    @classmethod
    def of(cls, tenant_id: Any, said: Mapping[str, Any]) -> "Tenant":
        """What a table of a file, or a row, says of a tenant; nothing stands for what is null."""
        given = {name: value for name, value in said.items() if value is not None}
        settings = {name: value for name, value in given.items() if name not in _OF_OURS}
        secret, dataset = (str(given.get(name, "")) for name in _OF_OURS)
        return cls("" if tenant_id is None else str(tenant_id), secret, settings, dataset or None)

    def source(self, **otherwise: Any) -> FlowiqSource:
        """The tenant's source; `otherwise` are settings where it has none of its own.

        Raises:
            ConfigurationError: its secret is not there, or a setting cannot be right.
        """
        if not self.id.strip():
            # The API would take the token's tenant, and the rows would be nobody's.
            raise ConfigurationError("a tenant has no id")
        _check_names(self.settings)
        settings: dict[str, Any] = otherwise | dict(self.settings)
        return flowiq_source(bearer_token=_resolved(self.secret), tenant_id=self.id, **settings)

    def pipeline(self, progress: Collector | None = None) -> dlt.Pipeline:
        """The tenant's pipeline, as `tenant_pipeline` makes it."""
        return tenant_pipeline(self.id, dataset_name=self.dataset_name, progress=progress)


def _check_names(settings: Mapping[str, Any]) -> None:
    known = [*_OF_OURS, *Settings.get_resolvable_fields()]
    for name in settings:
        if name in {"bearer_token", "tenant_id"}:
            raise ConfigurationError(
                f"{name} is no setting of a tenant: its id is known, and `secret` names its token"
            )
        if name not in known:
            hint = nearest(name, known)
            raise ConfigurationError(f"{name} is no setting of a tenant: {hint}")


def _resolved(secret: str) -> str:
    """The token that a secret's name stands for."""
    if not secret:
        raise ConfigurationError(
            'the tenant names no secret: secret = "sources.flowiq.tokens.acme" is the name of its '
            "token in dlt's configuration"
        )
    # What is no name may be the token itself, so nothing of it is said.
    if not _SECRET_NAME.fullmatch(secret) or secret.startswith("fiq_"):
        raise ConfigurationError(
            "the tenant's secret must be the name of its token in dlt's configuration, such as "
            "sources.flowiq.tokens.acme, and not the token itself"
        )
    token = dlt.secrets.get(secret, str)
    if not token:
        variable = secret.upper().replace(".", "__")
        raise ConfigurationError(
            f"the secret {secret} is not set: put it into .dlt/secrets.toml or into {variable}"
        )
    return str(token)


def tenant_pipeline(
    tenant_id: str, *, dataset_name: str | None = None, progress: Collector | None = None
) -> dlt.Pipeline:
    """The pipeline of a tenant, with the destination and dataset of dlt's configuration.

    Each tenant has a pipeline of its own and, where the destination is a server, a staging dataset
    of its own, so that two may load into one dataset at the same time. A DuckDB file, which one
    loads at a time, has one for all: with a thousand more tables, it takes seconds to open.
    """
    suffix = tenant_suffix(tenant_id)
    # Not flowiq.duckdb: DuckDB wants file and dataset to have different names.
    file = "destination.duckdb.credentials"
    if not dlt.secrets.get(file):
        dlt.secrets[file] = "flowiq_pipeline.duckdb"
    dataset = dataset_name or dlt.config.get("dataset_name", str) or "flowiq"

    def opened() -> dlt.Pipeline:
        return dlt.pipeline(
            pipeline_name=f"flowiq_pipeline{suffix}",
            destination=_destination(suffix),
            dataset_name=dataset,
            progress=progress,
        )

    try:
        return opened()
    except Exception:  # noqa: BLE001 - dlt has many ways not to be able to read a file
        # A machine that lost its power leaves empty files; a sync begins without them anyway.
        folder, name = Path(get_dlt_pipelines_dir()), f"flowiq_pipeline{suffix}"
        with sole(folder, name):
            delete_at_once(folder / name)
        return opened()


def _destination(suffix: str) -> Any:
    """The configured destination, with a staging dataset of the tenant's where it needs one."""
    kind = dlt.config.get("destination_type", str) or "duckdb"
    destination = dlt.destination(kind)
    is_file = destination.destination_type.endswith(".duckdb")
    sections = (f"destination.{destination.destination_name}", "destination")
    is_set = any(dlt.config.get(f"{section}.{_LAYOUT}") for section in sections)
    if is_file or is_set or _LAYOUT not in destination.spec.get_resolvable_fields():
        return destination
    return dlt.destination(kind, **{_LAYOUT: f"%s_staging{suffix}"})


@contextmanager
def working_for(tenant_id: str) -> Iterator[None]:
    """Have the log say for which tenant this thread works."""
    before = current_tenant.set(tenant_id)
    try:
        yield
    finally:
        current_tenant.reset(before)
