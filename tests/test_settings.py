"""Settings that cannot be right are refused by name, wherever they come from, before a request."""

from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.exceptions import ConfigValueCannotBeCoercedException
from dlt.common.configuration.providers import CustomLoaderDocProvider
from dlt.common.configuration.providers.vault import VaultDocProvider
from dlt.common.configuration.specs import PluggableRunContext

from flowiq_source import FlowiqError, flowiq_source, plan, sync, verify
from flowiq_source.sandbox import Sandbox
from tests.support.warehouse import Warehouse

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"start_date": "yesterday"}, "start_date is no ISO 8601 time"),
        ({"start_date": 20260101}, "start_date is no ISO 8601 time"),
        ({"start_date": True}, "start_date is no ISO 8601 time"),
        ({"start_date": time(1)}, "start_date is no ISO 8601 time"),
        ({"start_date": ""}, "start_date is no ISO 8601 time"),
        ({"end_date": ["2026-01-01"]}, "end_date is no ISO 8601 time"),
        ({"start_date": date.max}, "start_date is in the future"),
        ({"end_date": date.min}, "start_date must be before end_date"),
        ({"start_date": "2026-02-01", "end_date": "2026-01-01"}, "start_date must be before"),
        ({"full_refresh": True, "end_date": "2026-01-01"}, "full_refresh reads everything"),
        ({"full_refresh": "no"}, "full_refresh must be true or false"),
        ({"force": 1}, "force must be true or false"),
        ({"lookback_days": -1}, "lookback_days must be a number of days"),
        ({"lookback_days": 1e300}, "lookback_days must be a number of days"),
        ({"lookback_days": NAN}, "lookback_days must be a number of days"),
        ({"lookback_days": "7"}, "lookback_days must be a number"),
        ({"lookback_days": True}, "lookback_days must be a number"),
        ({"rescan_share": 1.5}, "rescan_share must be a share"),
        ({"rescan_share": NAN}, "rescan_share must be a share"),
        ({"requests_per_minute": INF}, "requests_per_minute must be 1 or more"),
        ({"requests_per_minute": NAN}, "requests_per_minute must be 1 or more"),
        ({"rate_limit_share": NAN}, "rate_limit_share must be above 0"),
        ({"max_requests": 1.5}, "max_requests must be a whole number"),
        ({"max_requests": True}, "max_requests must be a whole number"),
        ({"max_requests": 0}, "max_requests must be above 0"),
        ({"max_minutes": NAN}, "max_minutes must be above 0"),
        ({"package_conversations": 0}, "package_conversations must be above 0"),
        ({"package_minutes": NAN}, "package_minutes must be 0 or more"),
        ({"phone_numbers": ["27820000001", "none"]}, "phone_numbers .* number 2 of 2 has no dig"),
        ({"phone_numbers": [["27820000001"]]}, "phone_numbers .* number 1 of 1"),
        ({"phone_numbers": [{"a": "1"}]}, "phone_numbers .* number 1 of 1"),
        ({"phone_numbers": [True, 1.5]}, "phone_numbers .* number 1 of 2"),
        ({"phone_numbers": "27820000001"}, "phone_numbers must be a list"),
        ({"phone_numbers": 27820000001}, "phone_numbers must be a list"),
        ({"phone_numbers": {"27820000001"}}, "phone_numbers must be a list"),
        ({"backend": "arrow"}, 'backend is "rows" or "pyarrow"'),
        ({"backend": 1}, "backend must be a text"),
        ({"tenant_id": ["acme"]}, "tenant_id must be a text"),
        ({"tenant_id": "ac\0me"}, "tenant_id must be a plain name"),
        ({"tenant_id": " acme"}, "tenant_id must be a plain name"),
        ({"base_url": "http://api.flowiq.live"}, "base_url must start with https://"),
        ({"base_url": "api.flowiq.live"}, "base_url is not a plain URL"),
        ({"base_url": "https://user:word@api.flowiq.live"}, "base_url is not a plain URL"),
        ({"base_url": "https://api.flowiq.live\n"}, "base_url is not a plain URL"),
        ({"base_url": 5}, "base_url must be a text"),
        ({"bearer_token": "two words"}, "bearer_token is empty or holds"),
        ({"bearer_token": "fiq_\n"}, "bearer_token is empty or holds"),
        ({"bearer_token": '"two words"'}, "bearer_token is empty or holds"),
        ({"bearer_token": 5}, "bearer_token must be a text"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_right_is_refused_by_name(
    settings: dict[str, Any], says: str
) -> None:
    """In one line, before anything is sent, and without quoting a secret."""
    with pytest.raises(FlowiqError, match=f"^sources.flowiq.{says}") as caught:
        flowiq_source(**{"bearer_token": "fiq_x", **settings})
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert "two words" not in str(caught.value)


def write(file: Path, settings: str) -> None:
    """The section of the source, in a file that dlt reads anew."""
    file.write_text(f"[sources.flowiq]\n{settings}\n")
    Container()[PluggableRunContext].reload_providers()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("phone_numbers = 27820000001", "phone_numbers must be a list"),
        ("phone_numbers = [{a = 1}]", "phone_numbers is wrong"),
        ("lookback_days = nan", "lookback_days must be"),
        ("requests_per_minute = inf", "requests_per_minute must be"),
        ("start_date = 12:00:00", "start_date is no"),
        ("start_date = 20260101", "start_date is no"),
        ('tenant_id = ["acme"]', "tenant_id must be"),
        ('tenant_id = {name = "acme"}', "tenant_id must be"),
        ("backend = true", "backend is"),
        ("lookback_dayz = 3", r"lookback_dayz is no setting: did you mean lookback_days\?"),
        ("Lookback_Days = 3", r"Lookback_Days is no setting: did you mean lookback_days\?"),
        ('token = "two words"', r"token is no setting: did you mean bearer_token\?"),
        ("max_table_nesting = 0", "max_table_nesting is no setting: there are bearer_token, "),
    ],
)
def test_a_file_is_checked_like_an_argument(folder: Path, settings: str, says: str) -> None:
    """The secrets of the same section lie in another file."""
    write(folder / "config.toml", settings)
    with pytest.raises(FlowiqError, match=f"^sources.flowiq.{says}") as caught:
        flowiq_source()
    assert "\n" not in str(caught.value)
    assert "two words" not in str(caught.value)


PLACES = {
    "a file": ("lookback_days = -1", {}, r"lookback_days .* \(it stands in .dlt/config"),
    "a variable": (
        "lookback_days = 3",
        {"SOURCES__FLOWIQ__LOOKBACK_DAYS": "-1"},
        "lookback_days must be .* \\(it stands in SOURCES__FLOWIQ__LOOKBACK_DAYS\\)",
    ),
    "an outer variable": ("", {"MAX_REQUESTS": "0"}, r"max_requests .* \(it stands in MAX_R"),
    "a misspelt key": ("lookback_dayz = 1", {}, r"lookback_dayz .* \(it stands in .dlt/config"),
    "a column": ("columns = {a = 'drop'}", {}, r"columns: .* \(it stands in .dlt/config.toml\)"),
    "two settings": (
        "max_requests = 5\nend_date = 2026-01-01",
        {},
        r"max_requests and .* \(it stands in .dlt/config.toml\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACES)
def test_an_error_says_where_the_setting_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """The file, or the variable, that is to be changed."""
    settings, variables, says = PLACES[case]
    write(folder / "config.toml", settings)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FlowiqError, match=f"^sources.flowiq.{says}"):
        flowiq_source()


def test_an_argument_is_not_blamed_on_a_file(folder: Path) -> None:
    """It goes before what the file says."""
    write(folder / "config.toml", "lookback_days = 3")
    with pytest.raises(FlowiqError) as caught:
        flowiq_source(lookback_days=-1)
    assert "it stands" not in str(caught.value)


@pytest.mark.parametrize("name", ["flowiqq", "flowiq_source"])
def test_a_misspelt_section_is_named(folder: Path, name: str) -> None:
    """It would be passed over, with all that it sets."""
    write(folder / "config.toml", "")
    (folder / "config.toml").write_text(f"[sources.{name}]\nlookback_days = 3\n")
    Container()[PluggableRunContext].reload_providers()
    with pytest.raises(FlowiqError, match=f"sources.{name} is no section: did you mean sources.f"):
        flowiq_source()


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            "[source.flowiq]\nlookback_days = 3",
            "source.flowiq is no section: did you mean sources.f",
        ),
        (
            "[sources.flowiq.model]\ntime_zone = 'UTC'",
            r"sources.flowiq.model is no setting: did you mean models\?",
        ),
        (
            "[sources.flowiq.tenant]\nfile = 'tenants.toml'",
            r"sources.flowiq.tenant is no setting: did you mean tenants\?",
        ),
    ],
)
def test_a_section_that_is_nearly_one_of_ours_is_named(
    folder: Path, written: str, says: str
) -> None:
    """With where it stands."""
    (folder / "config.toml").write_text(written)
    Container()[PluggableRunContext].reload_providers()
    with pytest.raises(FlowiqError, match=says + ".*it stands in .dlt/config.toml"):
        flowiq_source()


def test_what_dlt_init_writes_for_a_key_is_none(folder: Path) -> None:
    """A hash key need not be set; a token must."""
    write(folder / "secrets.toml", 'bearer_token = "fiq_x"\nhash_key = "<configure me>"')
    assert flowiq_source().feed.settings.hash_key is None
    write(folder / "secrets.toml", 'bearer_token = "<configure me>"')
    with pytest.raises(FlowiqError, match="bearer_token is not filled in yet"):
        flowiq_source()


@pytest.mark.parametrize(
    "setting",
    [
        'lookback_days = "seven"',
        "lookback_days = true",
        "lookback_days = 2026-01-01",
        "lookback_days = {a = 1}",
        "max_requests = 1.5",
        "max_requests = nan",
        "package_conversations = true",
        'full_refresh = "maybe"',
        'delete_gone = "maybe"',
    ],
)
def test_dlt_itself_refuses_what_is_of_another_type(folder: Path, setting: str) -> None:
    """By name, as for any source."""
    write(folder / "config.toml", setting)
    with pytest.raises(
        ConfigValueCannotBeCoercedException, match=f"`{setting.split(maxsplit=1)[0]}`"
    ):
        flowiq_source()


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("phone_numbers", '["27820000001"]', ["27820000001"]),
        ("phone_numbers", "[27820000001]", ["27820000001"]),
        ("lookback_days", "3", 3.0),
        ("lookback_days", '"3"', 3.0),
        ("max_requests", '"10"', 10),
        ("full_refresh", '"yes"', True),
        ("start_date", "2026-01-02", datetime(2026, 1, 2)),
        ("start_date", "2026-01-02T02:00:00+02:00", datetime(2026, 1, 2)),
        ("start_date", '"2026-01-02"', datetime(2026, 1, 2)),
        ("tenant_id", "7", "7"),
    ],
)
@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_value_means_the_same_in_a_file_and_in_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, written: str, value: Any, where: str
) -> None:
    """Numbers as texts, dates of TOML, lists as JSON."""
    if where == "file":
        write(folder / "config.toml", f"{name} = {written}")
    else:
        monkeypatch.setenv(f"SOURCES__FLOWIQ__{name.upper()}", written.strip('"'))
    found = getattr(flowiq_source().feed.settings, name)
    assert (found.replace(tzinfo=None) if isinstance(found, datetime) else found) == value


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("LOOKBACKDAYS", r"lookbackdays is no setting: did you mean lookback_days\?"),
        ("PHONE_NUMBER", r"phone_number is no setting: did you mean phone_numbers\?"),
    ],
)
def test_a_misspelt_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    """With the nearest right one."""
    monkeypatch.setenv(f"SOURCES__FLOWIQ__{name}", "3")
    with pytest.raises(FlowiqError, match=f"^sources.flowiq.{says}"):
        flowiq_source(bearer_token="fiq_x")


@pytest.mark.parametrize("name", ["SOURCES__FLOWIQ_TENANT_ID", "SOURCE__FLOWIQ__TENANT_ID"])
def test_a_variable_with_an_underscore_too_few_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It would not be seen, and another tenant's rows might be loaded."""
    monkeypatch.setenv(name, "acme")
    with pytest.raises(FlowiqError, match=f"{name} is no setting: did you mean SOURCES__FLOWIQ__"):
        flowiq_source(bearer_token="fiq_x")


def test_dlts_own_sections_are_not_misspelt(
    folder: Path, warehouse: Warehouse, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What dlt reads below the source's section are tables, as those of its resources are."""
    write(
        folder / "config.toml",
        "\n".join(
            [
                *("[sources.flowiq.extract]", "max_parallel_items = 5"),
                *("[sources.flowiq.data_writer]", "buffer_max_items = 7"),
                *("[sources.flowiq.schema]", "allow_identifier_change_on_table_with_data = true"),
                *("[sources.flowiq.messages]", 'write_disposition = "merge"'),
                *("[sources.flowiq.schema_contract]", 'columns = "evolve"'),
            ]
        ),
    )
    monkeypatch.setenv("SOURCES__FLOWIQ__EXTRACT__WORKERS", "2")
    sandbox.world.add_contact("27820000001")
    assert warehouse.sync(sandbox).read == 1


def test_one_object_of_settings_is_for_everything(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """A source that exists can be planned, synced and verified: it was checked when it was made."""
    contacts = [sandbox.world.add_contact(f"2782000000{n}") for n in range(5)]
    source = warehouse.source(sandbox, phone_numbers=[contacts[0].number], max_requests=7)
    planned = plan(warehouse.pipeline, source)
    assert (planned.new, planned.requests, planned.max_requests) == (1, 2, 7)
    assert sync(warehouse.pipeline, source).requests == 2
    assert verify(warehouse.pipeline, source).conversations == 1


class Vault(VaultDocProvider):
    """A vault that is asked for one secret after the other, as dlt's own are."""

    name = "Our vault"
    supports_sections = True

    def __init__(self) -> None:
        super().__init__(only_secrets=True, only_toml_fragments=False)

    def _look_vault(self, full_key: str, hint: type) -> str:  # noqa: ARG002 - dlt's interface
        found: Any = {"sources.flowiq.bearer_token": "fiq_vault"}.get(full_key)
        return found  # type: ignore[no-any-return] # dlt's own give None too

    def _list_vault(self) -> set[str]:
        return set()


def _loaded(more: dict[str, Any]) -> CustomLoaderDocProvider:
    section = {"bearer_token": "fiq_vault", **more}
    return CustomLoaderDocProvider(
        "Our vault", lambda: {"sources": {"flowiq": section}}, supports_secrets=True
    )


@pytest.mark.parametrize("provider", [Vault(), _loaded({})], ids=["one by one", "at once"])
def test_a_vault_has_the_token(folder: Path, provider: Any) -> None:
    """Registered with dlt, beside the files."""
    (folder / "secrets.toml").unlink()
    write(folder / "config.toml", "lookback_days = 3")
    dlt.config.register_provider(provider)
    settings = flowiq_source().feed.settings
    assert (settings.bearer_token, settings.lookback_days) == ("fiq_vault", 3)


def test_what_is_wrong_in_a_vault_is_said_to_stand_there(folder: Path) -> None:
    """It has no file."""
    write(folder / "config.toml", "")
    dlt.config.register_provider(_loaded({"lookback_dayz": 3}))
    with pytest.raises(FlowiqError, match=r"did you mean lookback_days\? \(it stands in Our vault"):
        flowiq_source()
