"""What the documents say is so: the drawing of the rooms, commands, links."""

from __future__ import annotations

import re
import shlex
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest

import index.cli
import service.cli
import trainer.cli
from tests.conftest import ROOT
from tests.contract.modules import PACKAGES

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def drawn_rooms() -> dict[str, list[str]]:
    """Read the drawing in README: the rooms of each package, from left to right."""
    drawing = README.partition("## Rooms")[2].split("```")[1]
    rooms: dict[str, list[str]] = {}
    package = ""
    for line in drawing.strip().splitlines():
        if line.startswith("  "):
            rooms[package] = re.findall(r"(\w+)/", line)
        else:
            package = line.split("/")[0]
    return rooms


WITH_ROOMS = tuple(package for package in PACKAGES if package != "cairn_client")


def layers(package: str) -> list[set[str]]:
    """Read the layers of a package from its contract, from top to bottom."""
    (contract,) = [
        one for one in CONTRACTS if one["type"] == "layers" and one.get("containers") == [package]
    ]
    return [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def test_readme_is_short() -> None:
    """A person reads it to the end."""
    assert len(README.splitlines()) <= 150


def test_every_package_is_drawn() -> None:
    """The drawing holds all packages, and each but the client has rooms."""
    assert set(drawn_rooms()) == set(WITH_ROOMS)
    assert re.search(r"^cairn_client/ ", README, re.MULTILINE)
    assert not [path for path in (ROOT / "cairn_client").iterdir() if any(path.glob("*.py"))]


@pytest.mark.parametrize("package", WITH_ROOMS)
def test_the_drawing_shows_the_folders(package: str) -> None:
    """Its rooms are the folders of the package, at most eight."""
    folders = {
        path.name
        for path in (ROOT / package).iterdir()
        if path.is_dir() and (any(path.glob("*.py")) or path.name == "page")
    }
    assert set(drawn_rooms()[package]) == folders
    assert 0 < len(folders) <= 8


@pytest.mark.parametrize("package", WITH_ROOMS)
def test_a_room_is_drawn_left_of_what_it_may_import(package: str) -> None:
    """From left to right is from the top layer of the contract to the lowest."""
    depth = {room: number for number, layer in enumerate(layers(package)) for room in layer}
    drawn = [depth[room] for room in drawn_rooms()[package] if room in depth]
    assert len(drawn) >= 3
    assert drawn == sorted(drawn)


@pytest.mark.parametrize("package", WITH_ROOMS)
def test_every_room_has_a_layer(package: str) -> None:
    """No folder with modules escapes the contract."""
    known = set().union(*layers(package)) | {"page"}
    assert set(drawn_rooms()[package]) <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """A relative link names a file that is there."""
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def commands(document: Path) -> list[list[str]]:
    """Read the commands of a document's shell examples, as words without pipes and comments."""
    found = []
    text = document.read_text(encoding="utf-8")
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if kind == "console" and not line.startswith("$ "):
                continue  # what the command printed
            words = shlex.split(line.removeprefix("$ "), comments=True)
            found.append(list(takewhile(lambda word: word not in ("|", ">", "&&"), words)))
    return [words for words in found if words]


EXAMPLES = [
    pytest.param(words, id=f"{document.name}: {' '.join(words)[:60]}")
    for document in DOCUMENTS
    for words in commands(document)
]
APPS = {
    "cairn-train": trainer.cli.app,
    "cairn-index": index.cli.app,
    "cairn-serve": service.cli.app,
}


def test_there_are_examples_of_every_command() -> None:
    """All three commands, and make, are shown."""
    shown = {example.values[0][0] for example in EXAMPLES}
    assert {*APPS, "make", "python", "docker", "curl"} <= shown


@pytest.mark.parametrize("words", EXAMPLES)
def test_a_shown_command_is_understood(words: list[str]) -> None:
    """Commands parse, targets of make and scripts exist."""
    if words[0] in APPS:
        command, bound, _ = APPS[words[0]].parse_args(
            words[1:], print_error=False, exit_on_error=False
        )
        assert bound.arguments is not None
        assert command is not APPS[words[0]].help_print
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "torchrun":
        module = words.index("-m")
        trainer.cli.app.parse_args(words[module + 2 :], print_error=False, exit_on_error=False)
    else:
        assert words[0] in {"curl", "docker", "echo", "export", "head", "pip", "pytest", "source"}
