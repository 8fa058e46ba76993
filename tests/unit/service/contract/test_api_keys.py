"""Keys: kept as digests, told apart by name, and never repeated in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli import main
from service.contract.api_keys import digest_of, name_of, new_key, parse_keys


def test_a_key_is_known_by_its_digest_only(tmp_path: Path) -> None:
    """By environment or by file, several of them, with comments between."""
    keys = [new_key() for _ in range(3)]
    entries = [f"phone={digest_of(keys[0])}", digest_of(keys[1])]
    (tmp_path / "keys").write_text(f"# the phone\n{entries[0]}\n\n{entries[1]}  # unnamed\n")
    for text in (",".join(entries), f"@{tmp_path / 'keys'}"):
        known = parse_keys(text)
        assert name_of(keys[0], known) == "phone"
        assert name_of(keys[1], known) == digest_of(keys[1])[7:15]
        assert name_of(keys[2], known) is None
        assert name_of("", known) is None
        assert name_of(digest_of(keys[0]), known) is None


@pytest.mark.parametrize("text", ["", "sha256:12", "my secret key", "@/no/such/file"])
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_what_lists_no_key_is_refused_without_repeating_it(
    text: str, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator who put the key itself there must not find it in a log."""
    arguments = ["--store", "a", "--embedder", "b"]
    if source == "flag":
        arguments += ["--api-keys", text]
    else:
        monkeypatch.setenv("CAIRN_API_KEYS", text)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    words = capsys.readouterr().err
    assert words.startswith("cairn-serve: --api-keys (CAIRN_API_KEYS): ")
    assert "my secret key" not in words


def test_the_command_makes_a_key_and_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    """The key to stdout, for whoever uses it; the entry to stderr, for whoever configures it."""
    assert main(["key", "phone"]) == 0
    printed = capsys.readouterr()
    entry = printed.err.partition(": ")[2].strip()
    assert name_of(printed.out.strip(), parse_keys(entry)) == "phone"
    assert main(["key", "two words"]) == 2
