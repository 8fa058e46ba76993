"""Settings: where they come from, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.cli import _FLAGS, _parser
from service.settings import Settings


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say where the artifacts are, since they have no default."""
    monkeypatch.setenv("CAIRN_STORE", "/srv/store")
    monkeypatch.setenv("CAIRN_EMBEDDER", "/srv/embedder")


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the prefix."""
    monkeypatch.setenv("CAIRN_PORT", "9000")
    settings = Settings()
    assert settings.port == 9000
    assert settings.store == Path("/srv/store")


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer word counts."""
    monkeypatch.setenv("CAIRN_PORT", "9000")
    flags = vars(_parser().parse_args(["--port", "9001", "--store", "elsewhere"]))
    settings = Settings(**flags)
    assert settings.port == 9001
    assert settings.store == Path("elsewhere")
    assert settings.embedder == Path("/srv/embedder")


def test_every_setting_has_its_flag_and_every_flag_its_setting() -> None:
    """A setting added to one place only is noticed."""
    flags = {name.replace("-", "_") for name, _, _ in _FLAGS}
    assert flags == set(Settings.model_fields)


def test_help_tells_the_defaults() -> None:
    """The number in brackets is the one that is used."""
    told = {name.replace("-", "_"): words for name, _, words in _FLAGS}
    checked = 0
    for name, field in Settings.model_fields.items():
        if not field.is_required():
            assert told[name].endswith(f"({field.default})")
            checked += 1
    assert checked > 5


def test_an_unknown_setting_is_refused() -> None:
    """By name, as an argument; nothing is silently ignored."""
    with pytest.raises(ValidationError, match="colour"):
        Settings(colour="blue")  # type: ignore[call-arg] # that is the point


def test_settings_cannot_be_changed_later() -> None:
    """They are read once and handed on."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc] # that is the point
