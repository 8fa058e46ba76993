"""The stages of a rehearsal but for the service: what is run, and the figures of each."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measured
from commands import ROOT
from measured import Ended

from photographs.sample.full_size import FullSize
from trainer.recipe import load_recipe

Figures = dict[str, Any]

ADDED = 1_000
"""Pictures of the index that are added to the gallery."""

_BENCH_PICTURES = 2_048
_RECIPE = ROOT / "benchmarks" / "rehearsal.yaml"
_STEP = re.compile(r"stage \d+ epoch \d+/\d+:.*?(\d+)/(\d+) \[")
_KNOWN = re.compile(r"(\d+) of (\d+) pictures were embedded before")
_EMBEDDED = re.compile(r"^embed:.*?(\d+)/\d+ \[")


@dataclass(frozen=True)
class Rehearsal:
    """Where a rehearsal works.

    Attributes:
        out: Its folder.
        data: Folder of the drawn set.
        plan: What is drawn.
        records: What is known of the stages that are done, by name.
    """

    out: Path
    data: Path
    plan: FullSize
    records: dict[str, Figures] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The folder of the training."""
        return self.out / "run"

    @property
    def embedder(self) -> Path:
        """The embedder."""
        return self.out / "embedder"

    @property
    def store(self) -> Path:
        """The galleries."""
        return self.out / "store"

    @property
    def more(self) -> Path:
        """The data folder that is added."""
        return self.out / "more"

    def command(
        self,
        name: str,
        *words: object,
        watch: measured.Watch | None = None,
        module: str = "-m",
        refusal: str | None = None,
    ) -> Ended:
        """Run one command; its log has the name of the stage."""
        logs = self.out / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{name.replace(' ', '-').replace(',', '')}.log"
        asked = words if module != "-m" else ("-m", *words)
        return measured.run(asked, log, watch, refusal=refusal)

    def index(self, name: str, command: str, *words: object, **options: Any) -> Ended:  # noqa: ANN401
        """Run one command of the archive on the store."""
        return self.command(name, "index", command, "--store", self.store, *words, **options)


def draw(rehearsal: Rehearsal, name: str) -> Figures:
    """Draw the set."""
    words = ("--scale", rehearsal.plan.scale, "--seed", rehearsal.plan.seed)
    ended = rehearsal.command(name, "trainer", "draw", "--gldv2", *words, "--out", rehearsal.data)
    drawn = {key: ended.result[key] for key in ("landmarks", "train", "index", "test", "drawn")}
    return _described(ended, **drawn)


def read_list(rehearsal: Rehearsal, name: str) -> Figures:
    """Read the list of photographs and that of the queries."""
    program = (
        "import json, sys, time, pathlib; from photographs import open_data; t = time.monotonic();"
        "data = open_data(pathlib.Path(sys.argv[1])); pictures = data.gallery();"
        "s = time.monotonic() - t; queries = data.queries();"
        "print(json.dumps({'pictures': len(pictures), 'queries': len(queries), 'list_s': s,"
        "'queries_s': time.monotonic() - t - s}))"
    )
    ended = rehearsal.command(name, "-c", program, rehearsal.data, module="")
    return _described(ended, **ended.result)


class Steps:
    """Reads the progress bar of a training: when each step was done.

    Args:
        checkpoint: The file that is replaced by each checkpoint.
        kill_at: Share of the steps after which the training is killed, once there is a checkpoint;
            0 never does.
    """

    def __init__(self, checkpoint: Path, *, kill_at: float = 0.0) -> None:
        self.seconds: list[float] = []
        self.numbers: list[int] = []
        self.total = 0
        self.checkpoints = 0
        self._checkpoint, self._kill_at = checkpoint, kill_at
        self._seen = self._changed()

    def __call__(self, second: float, line: str) -> bool:
        """Look at a line."""
        if (found := _STEP.search(line)) is None:
            return False
        number, self.total = int(found[1]), int(found[2])
        if not self.numbers or number != self.numbers[-1]:
            self.numbers.append(number)
            self.seconds.append(second)
            if (changed := self._changed()) != self._seen:
                self._seen = changed
                self.checkpoints += 1
        return bool(self._kill_at and self.checkpoints and number >= self._kill_at * self.total)

    def first_step_seconds(self) -> float:
        """Return when the first step was done."""
        first = self.numbers[0]
        pairs = zip(self.seconds, self.numbers, strict=True)
        return next(second for second, number in pairs if number > first)

    def _changed(self) -> int:
        try:
            return self._checkpoint.stat().st_mtime_ns
        except OSError:
            return 0


def train_until_killed(rehearsal: Rehearsal, name: str) -> Figures:
    """Train, and kill the training at two fifths of its steps."""
    shutil.rmtree(rehearsal.run, ignore_errors=True)
    steps = Steps(rehearsal.run / "last.safetensors", kill_at=0.4)
    ended = _train(rehearsal, name, steps)
    _require_killed(ended)
    return _described(
        ended,
        first_step_s=steps.first_step_seconds(),
        steps=steps.numbers[-1],
        checkpoints=steps.checkpoints,
        left_behind=ended.left_behind,
    )


def train_resumed(rehearsal: Rehearsal, name: str) -> Figures:
    """Go on with the training to its end."""
    steps = Steps(rehearsal.run / "last.safetensors")
    ended = _train(rehearsal, name, steps, "--resume")
    report = json.loads((rehearsal.run / "report.json").read_text(encoding="utf-8"))
    epoch, killed = report["epochs"][-1], rehearsal.records["train, killed"]["steps"]
    pictures = rehearsal.plan.pictures("train")
    repeated = (killed - steps.numbers[0]) * load_recipe(_RECIPE).stages[0].batch_size
    validated = re.findall(r"(\d+) are asked for in a gallery of (\d+)", ended.log)[-1]
    return _described(
        ended,
        first_step_s=steps.first_step_seconds(),
        steps=steps.total,
        pictures_per_s=epoch["pictures_per_second"],
        repeated=killed - steps.numbers[0],
        repeated_share=repeated / pictures,
        checkpoint_stop_s=epoch["seconds_stopped"],
        validated=sum(map(int, validated)),
        validation_s=epoch["seconds_validating"],
        validation_share=epoch["seconds_validating"] * epoch["pictures_per_second"] / pictures,
        validation_gap=report["validation_gap"],
    )


def export(rehearsal: Rehearsal, name: str) -> Figures:
    """Export the network as an embedder."""
    shutil.rmtree(rehearsal.embedder, ignore_errors=True)
    words = ("export", rehearsal.run, "--out", rehearsal.embedder)
    return _described(rehearsal.command(name, "trainer", *words))


def bound(rehearsal: Rehearsal, name: str) -> Figures:
    """Measure decoding alone and the network alone: a build can be no faster than both."""
    words = ("--embedder", rehearsal.embedder, "--data", rehearsal.data)
    pictures = min(_BENCH_PICTURES, rehearsal.plan.pictures("train"))
    script = ROOT / "benchmarks" / "build.py"
    ended = rehearsal.command(name, script, *words, "--pictures", pictures, module="")
    decoding, network = (ended.result[f"{part}_per_s"] for part in ("decode", "network"))
    both = 1 / (1 / decoding + 1 / network)
    return _described(ended, decode_per_s=decoding, network_per_s=network, bound_per_s=both)


def build_until_killed(rehearsal: Rehearsal, name: str) -> Figures:
    """Build, and kill the build at a third of its pictures."""
    shutil.rmtree(rehearsal.store, ignore_errors=True)
    third, done = rehearsal.plan.pictures("train") // 3, [0]

    def watch(_second: float, line: str) -> bool:
        if found := _EMBEDDED.search(line):
            done[0] = int(found[1])
        return done[0] >= third

    ended = _build(rehearsal, name, watch)
    _require_killed(ended)
    return _described(ended, embedded=done[0], left_behind=ended.left_behind)


def build_resumed(rehearsal: Rehearsal, name: str) -> Figures:
    """Go on with the build to its end."""
    ended = _build(rehearsal, name)
    before = rehearsal.records["build, killed"]["embedded"]
    embedded, known = ended.result["embedded"], ended.result["known"]
    return _described(
        ended,
        embedded=embedded,
        known=known,
        repeated=max(0, before - known),
        rows=ended.result["rows"],
        recall=ended.result["recall"],
        unreadable=ended.result["unreadable"],
        store_gb=_folder_bytes(rehearsal.store) / 1e9,
    )


def rebuild(rehearsal: Rehearsal, name: str) -> Figures:
    """Rebuild the unchanged gallery."""
    before = _published(rehearsal)
    ended = rehearsal.index(name, "rebuild", "--embedder", rehearsal.embedder)
    stayed = ended.result["build_id"] == before
    return _described(ended, embedded=ended.result["embedded"], stayed=stayed)


def add(rehearsal: Rehearsal, name: str) -> Figures:
    """Add some pictures of the index."""
    rehearsal.more.mkdir(exist_ok=True)
    for file in ("index.csv", "index_image_to_landmark.csv"):
        lines = (rehearsal.data / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (rehearsal.more / file).write_text("".join(lines[: ADDED + 1]), encoding="utf-8")
    if not (link := rehearsal.more / "index").exists():
        link.symlink_to((rehearsal.data / "index").resolve())
    words = ("--embedder", rehearsal.embedder, "--data", rehearsal.more)
    ended = rehearsal.index(name, "add", *words)
    return _described(ended, embedded=ended.result["embedded"], rows=ended.result["rows"])


def remove(rehearsal: Rehearsal, name: str) -> Figures:
    """Remove the landmark with the most pictures, and a picture of another."""
    lines = (rehearsal.data / "train_clean.csv").read_text(encoding="utf-8").splitlines()
    last, other = lines[-1].partition(",")[0], lines[1].partition(",")[2].split()[0]
    ended = rehearsal.index(name, "remove", "--landmarks", last, "--pictures", other)
    return _described(ended, removed=ended.result["removed"])


def evaluate(rehearsal: Rehearsal, name: str) -> Figures:
    """Evaluate by all queries."""
    words = ("--embedder", rehearsal.embedder, "--data", rehearsal.data)
    ended = rehearsal.index(name, "evaluate", *words)
    metrics = ("queries", "known", "unreadable", "embedded", "gap", "top1", "auroc")
    found = {key: ended.result[key] for key in metrics}
    return _described(ended, search_s=ended.result["search_seconds"], **found)


def calibrate(rehearsal: Rehearsal, name: str) -> Figures:
    """Calibrate by all queries; refused where some hundred steps have taught too little."""
    words = ("--embedder", rehearsal.embedder, "--data", rehearsal.data)
    refusal = "cannot be calibrated"
    ended = rehearsal.index(name, "calibrate", *words, "--precision-target", 0.05, refusal=refusal)
    known = _KNOWN.search(ended.log)
    embedded = int(known[2]) - int(known[1]) if known else rehearsal.plan.pictures("test")
    return _described(ended, embedded=embedded, refused=not ended.result)


STAGES: dict[str, Callable[[Rehearsal, str], Figures]] = {
    "draw": draw,
    "list": read_list,
    "train, killed": train_until_killed,
    "train, resumed": train_resumed,
    "export": export,
    "bound of a build": bound,
    "build, killed": build_until_killed,
    "build, resumed": build_resumed,
    "rebuild": rebuild,
    "add": add,
    "remove": remove,
    "evaluate": evaluate,
    "evaluate again": evaluate,
    "calibrate": calibrate,
}
"""Every stage but the service, by its name, in order."""


def _train(rehearsal: Rehearsal, name: str, steps: Steps, *words: str) -> Ended:
    where = ("--recipe", _RECIPE, "--data", rehearsal.data, "--out", rehearsal.run)
    scale = rehearsal.plan.scale
    values = {
        "stages.0.steps": min(300, max(40, round(3000 * scale))),
        "validation.gallery": max(2000, round(20_000 * scale)),
        "save_seconds": max(1, 20 * scale),
    }
    settings = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return rehearsal.command(name, "trainer", "train", *where, *settings, *words, watch=steps)


def _require_killed(ended: Ended) -> None:
    if ended.result:
        raise SystemExit("it was over before it could be killed")


def _build(rehearsal: Rehearsal, name: str, watch: measured.Watch | None = None) -> Ended:
    words = ("--embedder", rehearsal.embedder, "--data", rehearsal.data)
    return rehearsal.index(name, "build", *words, watch=watch)


def _published(rehearsal: Rehearsal) -> str:
    return (rehearsal.store / "CURRENT").read_text(encoding="utf-8").strip()


def _described(ended: Ended, **figures: object) -> Figures:
    """Put what a command took together with the figures of its stage."""
    return {**ended.usage.rounded(), **figures}


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
