"""Settings: where they come from, and which are refused."""

from __future__ import annotations

import re
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path

import pytest

from embedder.command_line import help_text
from service.cli import app, main
from service.settings import Settings


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say where the artifacts are, since they have no default."""
    monkeypatch.setenv("CAIRN_STORE", "/srv/store")
    monkeypatch.setenv("CAIRN_EMBEDDER", "/srv/embedder")


def parsed(*arguments: str) -> Settings:
    """Return the settings that the command would serve with."""
    _, bound, _ = app.parse_args(arguments, print_error=False, exit_on_error=False)
    settings: Settings = bound.arguments["settings"]
    return settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the prefix."""
    monkeypatch.setenv("CAIRN_PORT", "9000")
    settings = parsed()
    assert settings.port == 9000
    assert settings.store == Path("/srv/store")


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer word counts."""
    monkeypatch.setenv("CAIRN_PORT", "9000")
    settings = parsed("--port", "9001", "--store", "elsewhere")
    assert settings.port == 9001
    assert settings.store == Path("elsewhere")
    assert settings.embedder == Path("/srv/embedder")


def test_a_variable_of_the_service_is_no_option_of_its_other_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``predict`` has flags of its own."""
    monkeypatch.setenv("CAIRN_URL", "http://elsewhere")
    monkeypatch.setenv("CAIRN_AT_ONCE", "0")
    _, bound, _ = app.parse_args(["predict", "a.jpg"], print_error=False, exit_on_error=False)
    assert "query" not in bound.arguments


def explained() -> dict[str, str]:
    """Return what the help page says of each flag, by its setting."""
    page = " ".join(help_text(app, []).split())
    parts = re.split(r" --([a-z-]+) ", page)
    return {
        name.replace("-", "_"): words for name, words in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_every_setting_has_its_flag_and_every_flag_its_setting() -> None:
    """The help page names all of them, and nothing else but what every command has."""
    flags = {name for name in explained() if name not in ("install_completion", "help", "version")}
    assert flags == {setting.name for setting in fields(Settings)}


def test_help_tells_the_defaults() -> None:
    """The number in brackets is the one that is used."""
    told = explained()
    checked = 0
    for setting in fields(Settings):
        if setting.default is not MISSING:
            assert f"(default: {setting.default})" in told[setting.name]
            checked += 1
    assert checked > 5


def test_a_default_is_one_that_could_be_given() -> None:
    """Each passes the checks of its own flag."""
    given = [f for f in fields(Settings) if f.default is not MISSING]
    flags = [word for f in given for word in (f"--{f.name.replace('_', '-')}", str(f.default))]
    assert parsed(*flags) == parsed()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("port", "99999", "must be <= 65535, not 99999"),
        ("port", "many", "must be a number, not 'many'"),
        ("threads", "-1", "must be >= 0, not -1"),
        ("max_bytes", "0", "must be >= 1, not 0"),
        ("batch_pictures", "257", "must be <= 256, not 257"),
        ("max_pictures", "1001", "must be <= 1000, not 1001"),
        ("deadline_seconds", "0", "must be > 0, not 0"),
        ("poll_seconds", "inf", "must be < inf, not inf"),
        ("receive_seconds", "nan", "must be"),
        ("device", "gpu", "must be one of auto, cpu, cuda, not 'gpu'"),
        ("log_level", "loud", "must be one of debug, info, warning, error"),
    ],
)
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_a_setting_that_cannot_be_used_is_refused(
    name: str,
    value: str,
    words: str,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether it came from a flag or a variable, which the message names."""
    flag, variable = f"--{name.replace('_', '-')}", f"CAIRN_{name.upper()}"
    if source == "environment":
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match="2"):
        main([flag, value] if source == "flag" else [])
    told = capsys.readouterr()
    assert f"cairn-serve: {flag} ({variable}): {words}" in told.err
    assert told.out == ""


def test_an_unknown_setting_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """By name, as an argument and as a flag; nothing is silently ignored."""
    with pytest.raises(TypeError, match="colour"):
        Settings(colour="blue")  # type: ignore[call-arg] # that is the point
    with pytest.raises(SystemExit, match="2"):
        main(["--colour", "blue"])
    assert "--colour" in capsys.readouterr().err


def test_settings_cannot_be_changed_later() -> None:
    """They are read once and handed on."""
    with pytest.raises(FrozenInstanceError):
        parsed().port = 1  # type: ignore[misc] # that is the point
