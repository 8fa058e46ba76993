"""Build landmarks: solids and skins put together by one of a dozen plans.

A plan is a sentence of architecture (a hall, a drum, a dome, four minarets) whose every measure
and material comes from the landmark's own generator, so two landmarks of one plan are as alike
as two cathedrals are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np

from photographs.sample.skins import Palette, Skin, draw_skin
from photographs.sample.solids import Passage, Place, Solid, block, dome, drum

_FACADES = ("windows", "arcade", "gothic", "bands", "lattice", "columns")


@dataclass(frozen=True, slots=True)
class Landmark:
    """A building that does not exist.

    Attributes:
        name: As a traveler would call it.
        solids: Its parts.
        skins: Their surfaces, by number.
        height: Of its highest point.
        reach: Distance of its farthest point from its middle, along the ground.
    """

    name: str
    solids: tuple[Solid, ...]
    skins: tuple[Skin, ...]
    height: float
    reach: float


class _Mason:
    """Builds with one landmark's materials and dice."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.palette = Palette.of(rng)
        self.solids: list[Solid] = []
        self.skins: list[Skin] = []

    def between(self, low: float, high: float) -> float:
        """Choose a measure."""
        return float(self.rng.uniform(low, high))

    def one_of(self, *choices: str) -> str:
        """Choose a manner."""
        return choices[self.rng.integers(len(choices))]

    def count(self, low: int, high: int) -> int:
        """Choose a number, ``high`` included."""
        return int(self.rng.integers(low, high + 1))

    def skin(self, kind: str, columns: int = 4, rows: int = 3, *, repeats: int = 1) -> int:
        """Make a surface and give its number."""
        palette = self.palette
        if self.rng.random() < 0.25:
            palette = replace(palette, wall=palette.trim, trim=palette.wall)
        self.skins.append(draw_skin(kind, palette, self.rng, bays=(columns, rows), repeats=repeats))
        return len(self.skins) - 1

    def put(self, *solids: Solid) -> None:
        """Add parts to the building."""
        self.solids.extend(solids)

    def crown(self, x: float, y: float, z: float, width: float) -> float:
        """Put a dome, onion, cone, pyramid or battlement on a tower; give the height reached."""
        kind = self.one_of("dome", "onion", "cone", "pyramid", "flat")
        place, rise = Place(x, y, z), width * self.between(0.6, 1.8)
        if kind == "dome":
            self.put(dome(place, (width, width * 0.6), self.skin("ribs", repeats=4)))
            self.put(drum(Place(x, y + width * 0.58, z), (width * 0.07, width * 0.5), 0, top=0.2))
            return y + width
        if kind == "onion":
            skin = self.skin("ribs", 3, repeats=4)
            self.put(dome(place, (width * 1.08, width), skin, bulge=0.35))
            self.put(drum(Place(x, y + width * 0.93, z), (width * 0.2, rise * 0.4), skin, top=0))
            return y + width + rise * 0.4
        if kind == "cone":
            self.put(drum(place, (width * 1.15, rise), self.skin("tiles", repeats=3), top=0))
        elif kind == "pyramid":
            size = (width * 1.1, rise, width * 1.1)
            self.put(block(place, size, self.skin("tiles"), top=(0, 0)))
        else:
            rise = width * 0.18
            self.put(block(place, (width * 1.15, rise, width * 1.15), self.skin("courses")))
        return y + rise


def build(seed: int, landmark: int) -> Landmark:
    """Build the landmark of a number; all plans have had their turn before one comes again."""
    order = np.random.default_rng((seed, 1)).permutation(len(PLANS))
    kind = list(PLANS)[order[landmark % len(PLANS)]]
    mason = _Mason(np.random.default_rng((seed, 2, landmark)))
    PLANS[kind](mason)
    corners = np.concatenate([solid.corners() for solid in mason.solids])
    return Landmark(
        name=_name(kind, mason.rng),
        solids=tuple(mason.solids),
        skins=tuple(mason.skins),
        height=float(corners[:, 1].max()),
        reach=float(np.hypot(corners[:, 0], corners[:, 2]).max()),
    )


def _tower(m: _Mason) -> None:
    """Stack ever slimmer stories under a crown."""
    width, y = m.between(0.7, 1.1), 0.0
    square = m.rng.random() < 0.6
    for _ in range(m.count(2, 4)):
        height, taper = m.between(0.6, 1.3), m.between(0.82, 1.0)
        kind = m.one_of(*_FACADES[:5])
        if square:
            skin = m.skin(kind, m.count(2, 4), m.count(2, 4))
            m.put(block(Place(y=y), (width, height, width), skin, top=(taper, taper)))
        else:
            skin = m.skin(kind, m.count(2, 3), m.count(2, 4), repeats=4)
            m.put(drum(Place(y=y), (width, height), skin, top=taper, sides=m.count(1, 2) * 8))
        y, width = y + height, width * taper
        ledge = m.skin("courses")
        m.put(block(Place(y=y), (width * 1.14, 0.08, width * 1.14), ledge))
        y, width = y + 0.08, width * m.between(0.72, 0.95)
    m.crown(0, y, 0, width * 0.95)


def _domed_hall(m: _Mason) -> None:
    """Raise a great dome over a hall between minarets."""
    width, height = m.between(1.4, 2.0), m.between(0.7, 1.1)
    m.put(block(Place(), (width * 1.5, 0.12, width * 1.5), m.skin("steps")))
    hall = m.skin("portal", m.count(4, 6), 2)
    m.put(block(Place(y=0.12), (width, height, width), hall))
    top, size = 0.12 + height, width * m.between(0.55, 0.75)
    neck = m.between(0.15, 0.4)
    m.put(drum(Place(y=top), (size * 0.92, neck), m.skin("arcade", 4, 1, repeats=4)))
    bulge = m.between(0, 0.35)
    ribs = m.skin("ribs", m.count(2, 5), repeats=4)
    m.put(dome(Place(y=top + neck), (size, size * m.between(0.55, 0.9)), ribs, bulge=bulge))
    spire = Place(y=top + neck + size * 0.5)
    m.put(drum(spire, (size * 0.12, size * 0.65), ribs, top=0.05))
    away, tall = width * m.between(0.58, 0.7), m.between(1.4, 2.6)
    minaret = m.skin(m.one_of("bands", "courses", "arcade"), 2, 4, repeats=4)
    corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)][: m.count(1, 2) * 2]
    for x, z in corners:
        m.put(drum(Place(x * away, 0.1, z * away), (0.2, tall), minaret, top=0.75))
        m.put(dome(Place(x * away, 0.1 + tall, z * away), (0.22, 0.25), ribs, bulge=0.3))


def _arch(m: _Mason) -> None:
    """Cut a gate through a block and load it with an attic."""
    width, depth = m.between(1.5, 2.4), m.between(0.6, 1.0)
    opening = width * m.between(0.17, 0.26)
    spring = m.between(0.7, 1.2)
    height = spring + opening + m.between(0.15, 0.5)
    wall = m.skin(m.one_of("courses", "bands", "gothic", "columns"), m.count(5, 8), 2)
    passage = Passage(opening, spring)
    m.put(block(Place(), (width, height, depth), wall, passage=passage))
    m.put(block(Place(y=height), (width * 1.08, 0.1, depth * 1.15), m.skin("courses")))
    attic = m.skin(m.one_of("windows", "arcade", "courses", "lattice"), m.count(4, 9), 1)
    rise = m.between(0.25, 0.6)
    m.put(block(Place(y=height + 0.1), (width * 0.96, rise, depth * 0.95), attic))
    if m.rng.random() < 0.5:
        for x in (-1, 1):
            m.crown(x * width * 0.36, height + 0.1 + rise, 0, depth * 0.5)
    else:
        m.crown(0, height + 0.1 + rise, 0, depth * m.between(0.5, 0.9))


def _pyramid(m: _Mason) -> None:
    """Pile up terraces, with a temple on the highest, or leave the sides smooth."""
    width, y, terraces = m.between(2.2, 3.0), 0.0, m.count(1, 6)
    rise = m.between(1.0, 1.7) / terraces
    skin = m.skin(m.one_of("courses", "steps", "bands"), 8, m.count(2, 4))
    for terrace in range(terraces):
        size = width * (1 - terrace / (terraces + 0.8))
        lean = 0.93 if terraces > 1 else m.between(0.12, 0.3)
        m.put(block(Place(y=y), (size, rise, size), skin, top=(lean, lean)))
        y, width_here = y + rise, size * lean
    if terraces > 1:
        stairs = m.skin("steps", 1, 5)
        m.put(block(Place(z=width * 0.28), (width * 0.22, y, width * 0.6), stairs, top=(1, 0.2)))
    house = width_here * m.between(0.5, 0.8)
    temple = m.skin(m.one_of("columns", "windows", "portal"), 3, 1)
    m.put(block(Place(y=y), (house, house * 0.6, house), temple))
    m.crown(0, y + house * 0.6, 0, house * 0.8)


def _cathedral(m: _Mason) -> None:
    """Set two towers before a nave with a steep roof."""
    width, length, height = m.between(0.7, 1.0), m.between(1.6, 2.6), m.between(0.8, 1.3)
    side = m.skin("gothic", m.count(4, 7), m.count(1, 2))
    m.put(block(Place(z=-length / 2), (width, height, length), side))
    roof = (width * 1.06, width * m.between(0.5, 1.0), length)
    m.put(block(Place(y=height, z=-length / 2), roof, m.skin("tiles"), top=(0, 1)))
    m.put(block(Place(), (width, height * 1.2, 0.3), m.skin("portal", 3, 3)))
    size, tall = width * m.between(0.42, 0.6), height * m.between(1.3, 2.0)
    face = m.skin(m.one_of("gothic", "windows", "arcade"), 2, m.count(3, 5))
    spire = m.skin("tiles")
    rise = m.between(0.3, 1.4)
    pair = m.rng.random() < 0.75
    for x in (-1, 1) if pair else (1,):
        at = x * width * 0.55
        m.put(block(Place(at, 0, 0.05), (size, tall, size), face))
        m.put(drum(Place(at, tall, 0.05), (size * 1.05, rise), spire, top=0, sides=8))
    if not pair:
        m.crown(0, height * 1.1, -length * 0.6, width * 0.7)


def _temple(m: _Mason) -> None:
    """Stand a colonnade on steps under a pediment."""
    width, depth = m.between(1.6, 2.6), m.between(1.2, 2.2)
    height = m.between(0.7, 1.1)
    m.put(block(Place(), (width * 1.16, 0.1, depth * 1.16), m.skin("steps")))
    m.put(block(Place(y=0.1), (width * 1.08, 0.1, depth * 1.08), m.skin("steps")))
    m.put(block(Place(y=0.2), (width, height, depth), m.skin("columns", m.count(3, 7), 1)))
    top = 0.2 + height
    m.put(block(Place(y=top), (width * 1.05, 0.12, depth * 1.05), m.skin("windows", 9, 1)))
    roof = (width * 1.08, m.between(0.3, 0.6), depth * 1.06)
    lid = m.one_of("gable", "dome", "hip")
    if lid == "gable":
        m.put(block(Place(y=top + 0.12), roof, m.skin("courses", 6, 1), top=(0, 1)))
    elif lid == "hip":
        m.put(block(Place(y=top + 0.12), roof, m.skin("tiles"), top=(0.5, 0.1)))
    else:
        m.put(drum(Place(y=top + 0.12), (depth * 0.8, 0.25), m.skin("arcade", 3, 1, repeats=4)))
        m.put(dome(Place(y=top + 0.37), (depth * 0.8, depth * 0.4), m.skin("ribs", repeats=4)))


def _monument(m: _Mason) -> None:
    """Lift a figure or a globe on a column or an obelisk."""
    base, y = m.between(0.9, 1.5), 0.0
    for step in range(m.count(1, 3)):
        size = base * (1 - 0.22 * step)
        m.put(block(Place(y=y), (size, 0.14, size), m.skin("courses")))
        y += 0.14
    plinth = m.between(0.3, 0.7)
    m.put(block(Place(y=y), (plinth * 1.1, plinth, plinth * 1.1), m.skin("portal", 2, 1)))
    y += plinth
    tall, thick = m.between(1.2, 2.6), m.between(0.22, 0.42)
    if m.rng.random() < 0.5:
        shaft = m.skin(m.one_of("bands", "courses", "lattice"), 2, m.count(3, 6), repeats=3)
        m.put(drum(Place(y=y), (thick, tall), shaft, top=m.between(0.7, 1)))
        m.put(block(Place(y=y + tall), (thick * 1.5, 0.1, thick * 1.5), m.skin("courses")))
        m.put(drum(Place(y=y + tall + 0.1), (0.26, 0.4), m.skin("tiles"), top=0.5, sides=6))
        m.put(dome(Place(y=y + tall + 0.46), (0.2, 0.22), m.skin("ribs"), bulge=0.5))
    else:
        shaft = m.skin(m.one_of("bands", "courses", "gothic"), 1, m.count(3, 6))
        m.put(block(Place(y=y), (thick, tall, thick), shaft, top=(0.62, 0.62)))
        tip = thick * 0.62
        m.put(block(Place(y=y + tall), (tip, tip, tip), m.skin("tiles"), top=(0, 0)))
    for x in (-1, 1):
        if base > 1.2:
            m.put(dome(Place(x * base * 0.7, 0, 0), (0.3, 0.3), m.skin("ribs"), bulge=0.4))


def _rotunda(m: _Mason) -> None:
    """Ring an arena or a round hall with arcades."""
    width, y = m.between(1.8, 2.8), 0.0
    for _ in range(m.count(1, 3)):
        height = m.between(0.35, 0.6)
        skin = m.skin(m.one_of("arcade", "columns", "windows"), m.count(3, 5), 1, repeats=5)
        m.put(drum(Place(y=y), (width, height), skin))
        m.put(drum(Place(y=y + height), (width * 1.03, 0.06), m.skin("courses", repeats=3)))
        y, width = y + height + 0.06, width * m.between(0.7, 0.98)
    lid = m.one_of("dome", "cone", "ring")
    if lid == "dome":
        m.put(dome(Place(y=y), (width, width * m.between(0.25, 0.5)), m.skin("ribs", repeats=6)))
    elif lid == "cone":
        rise = m.between(0.3, 0.8)
        m.put(drum(Place(y=y), (width * 1.05, rise), m.skin("tiles", repeats=5), top=0.1))
        m.crown(0, y + rise, 0, width * 0.15)
    else:
        m.put(drum(Place(y=y), (width * 0.94, 0.05), m.skin("lattice", repeats=3)))
        for turn in np.arange(6) * pi / 3:
            at = Place(sin(turn) * width * 0.46, y, cos(turn) * width * 0.46)
            m.put(block(at, (0.12, 0.3, 0.12), 0, top=(0.5, 0.5)))


def _pagoda(m: _Mason) -> None:
    """Alternate stories and wide roofs."""
    width, y = m.between(1.0, 1.5), 0.0
    many = m.rng.random() < 0.4
    wall, roof = m.skin(m.one_of("windows", "lattice", "columns"), 4, 1), m.skin("tiles")
    stories, reach, shrink = m.count(3, 6), m.between(1.3, 1.7), m.between(0.76, 0.9)
    height, rise = m.between(0.26, 0.45), m.between(0.14, 0.3)
    for _ in range(stories):
        if many:
            m.put(drum(Place(y=y), (width, height), wall, sides=8))
            wide = (width * reach, rise)
            m.put(drum(Place(y=y + height), wide, roof, top=0.55, sides=8))
        else:
            m.put(block(Place(y=y), (width, height, width), wall))
            size = (width * reach, rise, width * reach)
            m.put(block(Place(y=y + height), size, roof, top=(0.55, 0.55)))
        y, width, height = y + height + rise * 0.9, width * shrink, height * 0.95
    m.put(drum(Place(y=y), (0.1, m.between(0.3, 0.9)), roof, top=0.1))


def _castle(m: _Mason) -> None:
    """Hold a keep between round corner towers."""
    width, height = m.between(1.4, 2.2), m.between(0.5, 0.8)
    curtain = m.skin(m.one_of("courses", "windows", "bands"), 7, 2)
    passage = Passage(0.16, 0.2) if m.rng.random() < 0.6 else None
    m.put(block(Place(), (width, height, width), curtain, passage=passage))
    keep, tall = width * m.between(0.35, 0.55), height * m.between(1.6, 2.6)
    face = m.skin(m.one_of("windows", "gothic", "courses"), 3, 4)
    shift = m.between(-0.2, 0.2) * width
    m.put(block(Place(shift, 0.0, shift / 2), (keep, tall, keep), face))
    m.crown(shift, tall, shift / 2, keep)
    size, rise = width * m.between(0.2, 0.32), height * m.between(1.1, 1.7)
    wall = m.skin(m.one_of("courses", "bands", "arcade"), 2, 3, repeats=3)
    roof, spire = m.skin("tiles", repeats=3), m.between(0.25, 0.7)
    for x, z in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        at = Place(x * width / 2, 0, z * width / 2)
        m.put(drum(at, (size, rise), wall))
        m.put(drum(replace(at, y=rise), (size * 1.2, spire), roof, top=0))


def _modern(m: _Mason) -> None:
    """Lean slabs of glass together, or string globes on a mast."""
    glass = m.skin(m.one_of("glass", "lattice"), m.count(2, 5), m.count(2, 5))
    if m.rng.random() < 0.5:
        for x in (-1, 1):
            size = (m.between(0.4, 0.8), m.between(1.4, 3.0), m.between(0.6, 1.0))
            place = Place(x * m.between(0.45, 0.7), 0, 0, m.between(-0.4, 0.4))
            m.put(block(place, size, glass, top=(m.between(0.1, 1.0), m.between(0.3, 1.0))))
        bridge = m.skin("windows", 8, 1)
        m.put(block(Place(y=m.between(0.5, 1.0)), (1.2, 0.2, 0.4), bridge))
    else:
        m.put(drum(Place(), (0.24, 3.0), m.skin("bands", 2, 5, repeats=2), top=0.4))
        m.put(block(Place(), (1.4, 0.35, 1.0), m.skin("windows", 6, 1), top=(0.9, 0.9)))
        ball = m.skin("glass", 3, 3, repeats=3)
        for _ in range(m.count(2, 3)):
            at = Place(m.between(-0.1, 0.1), m.between(0.6, 2.2), 0.0)
            wide = m.between(0.5, 1.0)
            m.put(dome(at, (wide, wide * m.between(0.6, 1.0)), ball, bulge=0.5))


def _palace(m: _Mason) -> None:
    """Spread wings to both sides of a pavilion."""
    width, height, depth = m.between(2.4, 3.2), m.between(0.6, 0.9), m.between(0.6, 0.9)
    wings = m.skin(m.one_of("windows", "arcade", "columns"), m.count(8, 12), m.count(2, 3))
    m.put(block(Place(), (width, height, depth), wings))
    roof = (width * 1.02, m.between(0.15, 0.4), depth * 1.05)
    m.put(block(Place(y=height), roof, m.skin("tiles"), top=(0.92, 0.2)))
    middle, tall = width * m.between(0.2, 0.3), height * m.between(1.25, 1.7)
    m.put(block(Place(z=0.1), (middle, tall, depth * 1.1), m.skin("portal", 3, 2)))
    m.crown(0, tall, 0.1, middle * 0.85)
    end = m.skin(m.one_of("windows", "bands", "gothic"), 2, 3)
    edge, rise = width * m.between(0.1, 0.17), height * m.between(1.1, 1.6)
    for x in (-1, 1):
        at = x * width * 0.46
        m.put(block(Place(at, 0, 0.05), (edge, rise, depth * 1.1), end))
        m.crown(at, rise, 0.05, edge)


PLANS: dict[str, Callable[[_Mason], None]] = {
    "Tower": _tower,
    "Great Dome": _domed_hall,
    "Arch": _arch,
    "Pyramid": _pyramid,
    "Cathedral": _cathedral,
    "Temple": _temple,
    "Monument": _monument,
    "Rotunda": _rotunda,
    "Pagoda": _pagoda,
    "Castle": _castle,
    "House": _modern,
    "Palace": _palace,
}

_FIRST = ("Vel", "As", "Or", "Mi", "Sol", "Ka", "Tha", "Brin", "Lu", "Né", "Quo", "Zar", "El", "Du")
_MIDDLE = ("mo", "ka", "ri", "ven", "the", "lu", "da", "sha", "ro", "ni", "ba", "pe")
_LAST = ("ra", "dor", "lin", "mar", "sk", "ven", "tz", "ña", "polis", "gard", "wé", "nor")


def _name(kind: str, rng: np.random.Generator) -> str:
    place = "".join(part[rng.integers(len(part))] for part in (_FIRST, _MIDDLE, _LAST))
    return f"{kind} of {place}"
