"""What docker-compose.yml promises: who may write, how a container stops, which knobs there are."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.conftest import ROOT
from tests.contract.modules import MODULES, PACKAGES

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT = {name: service for name, service in SERVICES.items() if "build" in service}
LASTING = {name for name, service in SERVICES.items() if service["restart"] == "unless-stopped"}
PROFILES = {
    "service": [],
    "service-gpu": ["gpu"],
    "index": ["index"],
    "train": ["train"],
    "train-gpu": ["train"],
    "prometheus": ["monitoring"],
    "grafana": ["monitoring"],
}
WRITTEN = {"index": {"/srv/store"}, "train": {"/srv/runs"}, "train-gpu": {"/srv/runs"}}
IN_COMMAND = {"host", "port", "store", "embedder", "device"}  # set by the images or the profile


def dockerfile(service: dict[str, Any]) -> str:
    """Read the Dockerfile of a service that is built."""
    text: str = (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    return text


def test_only_the_service_starts_unasked() -> None:
    """Everything but the service on a CPU waits for its profile."""
    assert {name: service.get("profiles", []) for name, service in SERVICES.items()} == PROFILES


@pytest.mark.parametrize("name", BUILT)
def test_an_image_holds_every_package_that_its_packages_import(name: str) -> None:
    """What a copied package imports is copied, too, and not ignored by the build."""
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile(BUILT[name]), re.MULTILINE))
    imported = {
        package
        for module in MODULES
        if module.name.split(".")[0] in copied
        for package in PACKAGES
        if re.search(rf"^\s*(?:from|import) {package}\b", module.source, re.MULTILINE)
    }
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {"embedder", "index"} < imported
    assert imported == copied
    assert {f"!{package}" for package in copied} <= set(ignored)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_confined(name: str) -> None:
    """It is not root, gains no rights, writes nothing of its own, and is bounded."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = re.sub(r"\$\{CAIRN_USER:-(.*)\}", r"\1", service["user"])
    assert re.fullmatch(r"[1-9]\d*:\d+", user)
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    for options in (one.split(":")[1] for one in service["tmpfs"]):
        assert re.match(r"size=\d+[mg],.*\bnoexec\b", options)
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    """Whoever wants the world to reach it says so."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"\$\{CAIRN_PUBLISH\w*:-127\.0\.0\.1:\d+\}:\d+", port)


@pytest.mark.parametrize("name", sorted(LASTING))
def test_what_lasts_reaches_no_other_machine(name: str) -> None:
    """Its one network publishes ports, and translates no address on the way out."""
    assert SERVICES[name]["networks"] == ["closed"]
    options = COMPOSE["networks"]["closed"]["driver_opts"]
    assert options == {"com.docker.network.bridge.enable_ip_masquerade": "false"}


@pytest.mark.parametrize("name", BUILT)
def test_only_jobs_write_and_only_what_they_make(name: str) -> None:
    """The service reads the store that the index job writes; photographs are read by all."""
    volumes = SERVICES[name]["volumes"]
    assert all(volume["type"] == "bind" for volume in volumes)
    written = {volume["target"] for volume in volumes if not volume.get("read_only")}
    assert written == WRITTEN.get(name, set())


def test_the_index_job_and_the_services_share_a_store() -> None:
    """They mount the same folder at the same place."""

    def store(name: str) -> tuple[str, str]:
        volumes = SERVICES[name]["volumes"]
        return next((v["source"], v["target"]) for v in volumes if v["target"] == "/srv/store")

    assert store("index") == store("service") == store("service-gpu")


@pytest.mark.parametrize("name", SERVICES)
def test_what_lasts_is_asked_how_it_is(name: str) -> None:
    """A service has a health check, its own or its image's; a job has none and ends for good."""
    service = SERVICES[name]
    own = "test" in service.get("healthcheck", {})
    images = "build" in service and re.search(r"^HEALTHCHECK", dockerfile(service), re.MULTILINE)
    off = service.get("healthcheck") == {"disable": True}
    assert bool(own or (images and not off)) is (name in LASTING)
    assert name in LASTING or service["restart"] == "no"


@pytest.mark.parametrize("name", ["service", "service-gpu"])
def test_a_stop_leaves_time_to_finish(name: str) -> None:
    """The container is given longer than the service takes for requests in flight."""
    grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.drain_seconds + Settings.stop_seconds


def test_every_setting_can_be_given() -> None:
    """Each option of cairn-serve that is not fixed in a container passes through by its name."""
    passed = {field.name for field in fields(Settings)} - IN_COMMAND
    given = SERVICES["service"]["environment"]
    ours = {name for name in given if not name.startswith("OTEL_")}
    assert {name.removeprefix(PREFIX).lower() for name in ours} == passed
    assert set(given.values()) == {None}
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in given


def test_there_are_images_and_services_that_last() -> None:
    """The parametrized tests above have something to look at."""
    assert {service["image"] for service in BUILT.values()} == {
        "cairn-service",
        "cairn-service-gpu",
        "cairn-trainer",
    }
    assert {"service", "service-gpu", "prometheus", "grafana"} == LASTING


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docker").glob("*.Dockerfile")), ids=lambda p: p.stem
)
def test_an_image_is_made_of_what_is_locked(path: Any) -> None:
    """Its base has a tag, its packages have hashes, and it does not run as root."""
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=python:3\.11-slim-bookworm$", text, re.MULTILINE)
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == ["${BASE} AS packages", "scratch"]
    made, image = text.split("FROM scratch\n")
    assert "ARG PIP_" in made
    assert "trim_base.sh" in made
    assert "PIP_" not in image  # it may hold a password, and the history of an image is public
    assert "--require-hashes" in text
    assert "--only-binary :all:" in text
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    lock = re.search(r"-r /opt/cairn/build/([\w-]+\.txt)", text)
    assert lock
    assert (ROOT / "requirements" / lock[1]).exists()


def test_what_is_mounted_of_the_repository_exists() -> None:
    """A misspelled path would be made as an empty folder by the engine."""
    paths = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service["volumes"]
        if isinstance(volume, str) and volume.startswith("./")
    ]
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []
