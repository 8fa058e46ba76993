"""The client as an application installs it: a wheel, httpx, and a `service` package of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.api.conftest import Running
from tests.conftest import ROOT
from tests.factories import view_bytes

pytestmark = pytest.mark.slow
APPLICATION = """
import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import service
from cairn_client import Answer, AsyncClient, Client

def ask(url: str, picture: Path) -> Answer:
    with Client(url) as client:
        return client.predict(picture, k=2)

async def ask_later(url: str, picture: Path) -> Answer:
    async with AsyncClient(url) as client:
        return await client.predict(picture.read_bytes(), k=2)

url, picture = sys.argv[1], Path(sys.argv[2])
answer = ask(url, picture)
assert asyncio.run(ask_later(url, picture)) == answer
absent = [name for name in ("pydantic", "numpy", "embedder") if not importlib.util.find_spec(name)]
print(json.dumps([answer.landmark_id, len(answer.neighbors or ()), service.OWN, absent]))
"""


def run(*words: object, cwd: Path) -> str:
    """Run a program that knows nothing of this checkout; give what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=environment | {"NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def needed(name: str) -> dict[str, importlib.metadata.Distribution]:
    """Give a distribution and all that it needs, as they are installed here."""
    found = importlib.metadata.distribution(name)
    everything = {name: found}
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            everything |= needed(requirement.name)
    return everything


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, of a copy: the build leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    source = shutil.copytree(ROOT / "cairn_client", folder / "source", ignore=ignored)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder, source, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the wheel and httpx, and nothing else of this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    run(*pip, wheel, cwd=folder)
    [packages] = folder.glob("lib/python*/site-packages")
    for distribution in needed("httpx").values():
        for top in {Path(file).parts[0] for file in distribution.files or ()} - {".."}:
            if not top.startswith("__"):
                (packages / top).symlink_to(str(distribution.locate_file(top)))
    return python


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """Write an application that has a package `service`, as many do."""
    package = tmp_path / "service"
    package.mkdir()
    (package / "__init__.py").write_text('OWN = "its own"\n')
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "picture.jpg").write_bytes(view_bytes(3, 0))
    return tmp_path


def test_the_wheel_holds_the_package_and_its_license(wheel: Path) -> None:
    """Every module, the mark of a typed package, and no module of the program."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"cairn_client/{path.name}" for path in (ROOT / "cairn_client").glob("*.py")}
    assert len(modules) > 5
    own = {name for name in names if ".dist-info/" not in name}
    assert own == modules | {"cairn_client/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_an_application_asks_a_running_service(
    python: Path, application: Path, service: Running
) -> None:
    """With httpx only, and without a collision."""
    printed = run(python, "application.py", service.url, "picture.jpg", cwd=application)
    assert json.loads(printed) == ["landmark-3", 2, "its own", ["pydantic", "numpy", "embedder"]]


def test_an_application_is_checked_by_the_client_s_types(python: Path, application: Path) -> None:
    """What is right passes mypy; a wrong argument and a wrong attribute do not."""
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python)
    run(*mypy, "--cache-dir", application / "cache", "application.py", cwd=application)
    wrong = "\nask(url, picture).landmark\nClient(url).predict(1)\n"
    (application / "wrong.py").write_text(APPLICATION + wrong)
    with pytest.raises(AssertionError) as caught:
        run(*mypy, "--cache-dir", application / "cache", "wrong.py", cwd=application)
    assert '"Answer" has no attribute "landmark"' in str(caught.value)
    assert "Found 2 errors" in str(caught.value)
