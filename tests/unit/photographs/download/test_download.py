"""A download ends with what was published, or with a failure that names the file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from embedder.errors import DownloadError
from embedder.preprocess import PictureLimits, read_file
from photographs import open_data
from photographs.download.download import DownloadPlan, download
from photographs.download.transfer import RetryPolicy
from tests.official_server import Server, landmarks_server, running, tar_of
from trainer.cli import main

QUICK = RetryPolicy(attempts=3, first_wait_seconds=0.001, longest_wait_seconds=0.01)
TAR = "train/images_001.tar"


def full(server: Server, **changes: object) -> DownloadPlan:
    """Plan all pictures of the three small tars."""
    order = {"pictures": "full", "tars": (0, 1, 2), "source": server.url, "connections": 2}
    return DownloadPlan(**(order | changes))  # type: ignore[arg-type]  # the fields of DownloadPlan


def found(out: Path) -> dict[str, bytes]:
    """Read every picture below a data folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.jpg")}


def of_split(paths: dict[str, bytes], split: str) -> dict[str, bytes]:
    """Give the pictures of one split."""
    return {path: content for path, content in paths.items() if path.startswith(f"{split}/")}


def test_all_of_a_split_arrives(tmp_path: Path) -> None:
    """Pictures and lists are those published, tars are gone, and the folder opens as data."""
    content, paths = landmarks_server()
    with running(content) as server:
        report = download(full(server), tmp_path, QUICK)
    assert found(tmp_path) == of_split(paths, "train")
    assert report["train"] == {"tars": 3, "pictures": 18, "listed": 18}
    assert (tmp_path / "train.csv").read_bytes() == server.files["metadata/train.csv"]
    assert len(open_data(tmp_path).gallery("train.csv")) == 18
    assert not list(tmp_path.rglob("*.tar")) + list(tmp_path.rglob("*.part*"))


def test_the_command_brings_every_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three splits, clean training pictures, attributions, and tars that are kept."""
    content, paths = landmarks_server(tars=1)
    out = tmp_path / "data"
    splits = [word for name in ("train", "index", "test") for word in ("--split", name)]
    arguments = ["download", "--out", str(out), *splits, "--tars", "0", "--keep-tars"]
    with running(content) as server:
        assert main([*arguments, "--attribution", "--source", server.url]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["train"] == {"tars": 1, "pictures": 3, "listed": 3}
    assert report["index"] == report["test"] == {"tars": 1, "pictures": 6, "listed": 6}
    clean = {p.path for p in open_data(out).gallery("train_clean.csv")}
    assert {out / name for name in found(out)} == clean | {
        out / path for path in paths if not path.startswith("train")
    }
    assert {path.name for path in out.glob("*.csv")} == {
        name.rsplit("/")[-1] for name in server.files if name.endswith(".csv")
    } - {"train.csv"}
    assert len(list(out.rglob("*.tar"))) == 3


def test_tars_that_stay_packed_are_read_in_place(tmp_path: Path) -> None:
    """No picture is unpacked, and the folder gives the same ones; the same call brings nothing."""
    content, paths = landmarks_server()
    with running(content) as server:
        report = download(full(server, packed=True), tmp_path, QUICK)
        asked = len(server.requests)
        assert download(full(server, packed=True), tmp_path, QUICK) == report
        assert len(server.requests) == asked
        assert not found(tmp_path)
        read = {
            p.path.relative_to(tmp_path).as_posix().split("/", 3)[3]: read_file(
                p.path, PictureLimits()
            )
            for p in open_data(tmp_path).gallery("train.csv")
        }
        assert {f"train/{path}": data for path, data in read.items()} == of_split(paths, "train")
        download(full(server), tmp_path, QUICK)
        assert found(tmp_path) == of_split(paths, "train")
    assert report["train"] == {"tars": 3, "pictures": 18, "listed": 18}


def test_a_download_is_not_asked_twice(tmp_path: Path) -> None:
    """A finished order asks nothing; a larger one asks only for what is missing."""
    content, paths = landmarks_server()
    with running(content) as server:
        download(full(server, pictures="clean", tars=(0,)), tmp_path, QUICK)
        server.requests.clear()
        again = download(full(server, pictures="clean", tars=(0,)), tmp_path, QUICK)
        assert server.requests == []
        assert again["train"] == {"tars": 1, "pictures": 3, "listed": 9}
        download(full(server), tmp_path, QUICK)
    assert found(tmp_path) == of_split(paths, "train")
    assert not server.asked("metadata/train_clean.csv")


def test_twenty_cuts_at_random_points_lose_nothing(tmp_path: Path) -> None:
    """Each transfer goes on where the one before was cut; the tar is equal to the byte."""
    content, paths = landmarks_server(tars=1, pictures=60)
    rng = np.random.default_rng(20)
    address = "train/images_000.tar"
    whole = len(content.files[address])
    cuts = sorted(rng.choice(np.arange(1, whole), 20, replace=False).tolist())

    def cut(name: str, rest: int) -> int | None:
        if name != address or not cuts:
            return None
        return max(0, cuts.pop(0) - (whole - rest))

    content.cut = cut
    with running(content) as server:
        download(full(server, tars=(0,), keep_tars=True), tmp_path, QUICK)
    assert not cuts
    assert len(server.asked(address)) == 21
    assert all(server.asked(address)[1:])
    assert (tmp_path / "tars" / address).read_bytes() == content.files[address]
    assert found(tmp_path) == of_split(paths, "train")


def test_a_wrong_md5_puts_nothing_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command fails with the name of the tar, of which nothing is kept; others arrive."""
    content, paths = landmarks_server()
    content.files["md5sum/train/md5.images_001.txt"] = b"0" * 32 + b"  images_001.tar\n"
    content.add_tar("train", 1, tar_of({"e/v/i/evil000000000000.jpg": b"evil"}))
    content.files["md5sum/train/md5.images_001.txt"] = b"0" * 32 + b"  images_001.tar\n"
    arguments = ["--tars", "0-2", "--pictures", "full", "--out", str(tmp_path)]
    with running(content) as server:
        status = main(["download", *arguments, "--source", server.url])
    assert status == DownloadError.exit_code != 0
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{TAR}: its md5 is" in told.err
    assert "should be 00000000000000000000000000000000" in told.err
    assert not list(tmp_path.rglob("images_001*"))
    assert not (tmp_path / "train" / "e" / "v" / "i" / "evil000000000000.jpg").exists()
    assert len(found(tmp_path)) == 12
    assert set(found(tmp_path)) <= set(paths)


def test_a_tar_pieced_together_wrongly_is_brought_once_more(tmp_path: Path) -> None:
    """What an earlier attempt left is not believed when the md5 is wrong."""
    content, paths = landmarks_server(tars=2)
    place = tmp_path / "tars" / "train"
    place.mkdir(parents=True)
    with running(content) as server:
        cuts = [0, 5000]
        content.cut = lambda name, rest: cuts.pop() if name == TAR and cuts else None
        with pytest.raises(DownloadError):
            download(full(server, tars=(0, 1)), tmp_path, RetryPolicy(1, 0.001))
        part = place / "images_001.tar.part"
        assert part.stat().st_size == 5000
        part.write_bytes(b"x" * 5000)
        content.cut = lambda name, rest: None
        server.requests.clear()
        download(full(server, tars=(0, 1)), tmp_path, QUICK)
    assert server.asked(TAR) == ["bytes=5000-", ""]
    assert found(tmp_path) == of_split(paths, "train")


@pytest.mark.parametrize(("found_there", "asked"), [("the tar", []), ("another file", [""])])
def test_a_tar_that_is_in_place_is_proved(
    tmp_path: Path, found_there: str, asked: list[str]
) -> None:
    """A right one, as a kill while it is unpacked leaves it, is not brought again."""
    content, paths = landmarks_server(tars=2)
    place = tmp_path / "tars" / TAR
    place.parent.mkdir(parents=True)
    place.write_bytes(content.files[TAR] if found_there == "the tar" else b"something")
    with running(content) as server:
        download(full(server, tars=(0, 1)), tmp_path, QUICK)
    assert server.asked(TAR) == asked
    assert found(tmp_path) == of_split(paths, "train")


def test_a_file_that_cannot_be_written_fails_by_name(tmp_path: Path) -> None:
    """The command ends with the tar's name; what has arrived is used by the next one."""
    content, paths = landmarks_server(tars=1)
    with running(content) as server:
        limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *_command(server, tmp_path)]
        ended = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert ended.returncode == DownloadError.exit_code
        assert "train/images_000.tar: File too large" in ended.stderr
        download(full(server, tars=(0,)), tmp_path, QUICK)
    assert server.asked("train/images_000.tar") == ["", "bytes=16384-"]
    assert found(tmp_path) == of_split(paths, "train")


def test_a_full_disk_stops_all_and_is_told_once(tmp_path: Path) -> None:
    """The tars that follow are not asked for."""
    content, _ = landmarks_server()
    part = tmp_path / "tars" / "train" / "images_000.tar.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with running(content) as server, pytest.raises(DownloadError) as raised:
        download(full(server, connections=1), tmp_path, QUICK)
    assert raised.value.failures == {"train/images_000.tar": "No space left on device"}
    assert not server.asked("train/images_002.tar")


def test_a_server_that_cannot_go_on_is_asked_for_the_whole(tmp_path: Path) -> None:
    """Without ranges a cut file begins anew."""
    content, paths = landmarks_server(tars=2)
    content.ranges = False
    cuts = [5000, 4000, 7000]
    content.cut = lambda name, rest: cuts.pop() if name == TAR and cuts else None
    with running(content) as server:
        download(full(server, tars=(0, 1)), tmp_path, QUICK)
    assert not cuts
    assert found(tmp_path) == of_split(paths, "train")


def test_a_server_that_always_cuts_at_one_place_is_given_up(tmp_path: Path) -> None:
    """Without ranges the same bytes again are no gain."""
    content, _ = landmarks_server(tars=2)
    content.ranges = False
    content.cut = lambda name, rest: 5000 if name == TAR else None
    with running(content) as server, pytest.raises(DownloadError) as raised:
        download(full(server, tars=(0, 1)), tmp_path, QUICK)
    assert list(raised.value.failures) == [TAR]
    assert len(server.asked(TAR)) == 1 + QUICK.attempts


def test_a_file_that_changed_between_attempts_begins_anew(tmp_path: Path) -> None:
    """Two versions are never mixed: the md5 tells."""
    content, _ = landmarks_server(tars=2)
    changed = {"a/b/c/abc0000000000000.jpg": bytes(30_000)}

    def cut(name: str, rest: int) -> int | None:
        if name == TAR and len(content.files[TAR]) != len(tar_of(changed)):
            content.add_tar("train", 1, tar_of(changed))
            return 5000
        return None

    content.cut = cut
    with running(content) as server:
        with pytest.raises(DownloadError, match="its md5 is"):
            download(full(server, tars=(0, 1)), tmp_path, QUICK)
        assert server.asked(TAR) == ["", "bytes=5000-", ""]
        download(full(server, tars=(0, 1)), tmp_path, QUICK)
    assert found(tmp_path)["train/a/b/c/abc0000000000000.jpg"] == bytes(30_000)


def test_what_is_not_there_fails_by_name(tmp_path: Path) -> None:
    """A missing tar does not keep the others, and is not asked for again and again."""
    content, _ = landmarks_server()
    del content.files[TAR]
    with running(content) as server, pytest.raises(DownloadError) as raised:
        download(full(server), tmp_path, QUICK)
    assert raised.value.failures == {TAR: "the server answers 404 Not Found"}
    assert len(server.asked(TAR, "HEAD")) == 1
    assert len(found(tmp_path)) == 12


def test_a_missing_list_ends_it_before_the_tars(tmp_path: Path) -> None:
    """Nobody waits for a terabyte that cannot be used."""
    content, _ = landmarks_server()
    del content.files["metadata/train_clean.csv"]
    with running(content) as server, pytest.raises(DownloadError, match=r"train_clean\.csv: "):
        download(full(server), tmp_path, QUICK)
    assert not server.asked("train/images_000.tar")


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    """503 and 429 pass."""
    content, paths = landmarks_server()
    content.status = {TAR: [503, 429], "md5sum/train/md5.images_002.txt": [500]}
    with running(content) as server:
        download(full(server), tmp_path, QUICK)
    assert found(tmp_path) == of_split(paths, "train")


def test_too_small_a_disk_is_told_before_anything_is_brought(tmp_path: Path) -> None:
    """The sizes that the server tells are added up first."""
    content, _ = landmarks_server()
    content.lies = {TAR: 10**18}
    with (
        running(content) as server,
        pytest.raises(DownloadError, match=r"GB free and 2050000000\.0 GB are needed"),
    ):
        download(full(server), tmp_path, QUICK)
    assert {method for method, _, _ in server.requests} == {"HEAD"}


@pytest.mark.parametrize(
    "name", ["../../evil.jpg", "/evil.jpg", "e/v/i/l.jpg", "a/b/c/abc.py", "a/b/c/../abc.jpg"]
)
def test_a_tar_with_another_path_is_refused_whole(tmp_path: Path, name: str) -> None:
    """Nothing of it is written, inside or outside of the folder."""
    content, _ = landmarks_server(tars=1)
    content.add_tar("train", 1, tar_of({"a/b/c/abc0.jpg": b"good", name: b"evil"}))
    out = tmp_path / "deep" / "data"
    with running(content) as server, pytest.raises(DownloadError, match="is not a picture"):
        download(full(server, tars=(1,)), out, QUICK)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".py")]
    assert not Path("/evil.jpg").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_a_link_is_refused_whole(tmp_path: Path, kind: bytes) -> None:
    """A link in a picture's place could lead a later picture anywhere."""
    content, _ = landmarks_server(tars=1)
    link = tarfile.TarInfo("a/b/c/abc1.jpg")
    link.type, link.linkname = kind, "/etc/passwd"
    content.add_tar("train", 1, tar_of({"a/b/c/abc0.jpg": b"good"}, link))
    with running(content) as server, pytest.raises(DownloadError, match="is not a picture"):
        download(full(server, tars=(1,)), tmp_path, QUICK)
    assert found(tmp_path) == {}


def test_a_second_download_keeps_out(tmp_path: Path) -> None:
    """Two in one folder would write over each other."""
    content, _ = landmarks_server(tars=1)
    content.bytes_per_second = 20_000
    with running(content) as server:
        command = _command(server, tmp_path)
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _wait_for(lambda: list(tmp_path.rglob("*.tar.part")))
        with pytest.raises(DownloadError, match="another download is at work"):
            download(full(server, tars=(0,)), tmp_path, QUICK)
        first.kill()
        first.wait()


@pytest.mark.slow
def test_a_killed_download_goes_on(tmp_path: Path) -> None:
    """Killed in the middle of a tar, and again; what had arrived is not asked for again."""
    content, paths = landmarks_server(tars=1, pictures=40)
    address = "train/images_000.tar"
    part = tmp_path / "tars" / f"{address}.part"
    content.bytes_per_second = 60_000
    with running(content) as server:
        for enough in (20_000, 50_000):
            process = subprocess.Popen(_command(server, tmp_path), stderr=subprocess.DEVNULL)
            _wait_for(lambda size=enough: part.exists() and part.stat().st_size > size)
            process.send_signal(signal.SIGKILL)
            process.wait()
        content.bytes_per_second = None
        subprocess.run(_command(server, tmp_path), check=True, stderr=subprocess.DEVNULL)
    starts = [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in server.asked(address)]
    assert starts[0] == 0
    assert starts[1] > 20_000
    assert starts[2] > 50_000
    assert found(tmp_path) == of_split(paths, "train")


@pytest.mark.parametrize(
    "arguments",
    [["--tars", "x"], ["--tars", "5-2"], ["--connections", "0"], ["--source", "ftp://x"]],
)
def test_the_command_refuses_what_means_nothing(tmp_path: Path, arguments: list[str]) -> None:
    """Faulty options end the command before anything is asked."""
    with pytest.raises(SystemExit, match="2"):
        main(["download", "--out", str(tmp_path / "data"), *arguments])
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NO_PROXY", "localhost,fd07:b51a:cc66:f0::/64"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://me:sec/ret@host:x"),
        ("HTTPS_PROXY", "socks4://127.0.0.1:1080"),
    ],
)
def test_proxies_that_cannot_be_used_are_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """By the names of the variables; their texts may hold a password."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(variable, value)
    with running(landmarks_server(tars=1)[0]) as server, pytest.raises(DownloadError) as caught:
        download(full(server), tmp_path, QUICK)
    assert variable in str(caught.value)
    assert "ret@" not in str(caught.value)


def _command(server: Server, out: Path) -> list[str]:
    arguments = ["--out", str(out), "--pictures", "full", "--tars", "0", "--source", server.url]
    return [sys.executable, "-m", "trainer", "download", *arguments]


def _wait_for(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]  # a function without arguments
        if time.monotonic() > deadline:
            pytest.fail("it did not come so far")
        time.sleep(0.01)
