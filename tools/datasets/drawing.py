"""Drawings of the ten CIFAR-10 classes: silhouettes of 32x32 pixels.

A figure is a list of polygons in a square from -1 to 1, y pointing down. `draw` perturbs its points, rotates, scales
and colours it, and draws it over clutter and partly occluded.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIZE = 32
_SUPERSAMPLING = 3  # Drawn three times as large, then averaged, for smooth edges.
Random = np.random.Generator
Polygon = npt.NDArray[np.float64]  # [points, 2]
_CIRCLE: Polygon = np.stack([np.cos(np.linspace(0, 2 * np.pi, 14)), np.sin(np.linspace(0, 2 * np.pi, 14))], axis=1)


def _ellipse(x: float, y: float, width: float, height: float) -> Polygon:
    return _CIRCLE * (width, height) + (x, y)


def _poly(*points: tuple[float, float]) -> Polygon:
    return np.array(points)


def _bar(x0: float, y0: float, x1: float, y1: float, width: float) -> Polygon:
    along = np.array([x1 - x0, y1 - y0])
    across = np.array([-along[1], along[0]]) / (np.hypot(*along) + 1e-9) * width / 2
    start, end = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([start + across, end + across, end - across, start - across])


def _legs(random: Random, places: tuple[float, ...], top: float, length: float, width: float) -> list[Polygon]:
    return [_bar(x, top, x + random.uniform(-0.12, 0.12), top + length, width) for x in places]


def _airplane(random: Random) -> list[Polygon]:
    """From above: a long body, swept wings, a tail."""
    span, sweep = random.uniform(0.65, 0.95), random.uniform(0.2, 0.5)
    wings = [_poly((0.2, 0), (-0.2 - sweep, side * span), (-0.4 - sweep, side * span), (-0.25, 0)) for side in (1, -1)]
    tails = [_poly((-0.65, 0), (-0.95, side * 0.35), (-1, side * 0.3), (-0.9, 0)) for side in (1, -1)]
    return [_ellipse(0, 0, 0.95, random.uniform(0.1, 0.16)), *wings, *tails]


def _automobile(random: Random) -> list[Polygon]:
    """From the side: a low body, a rounded cabin, two wheels."""
    roof = random.uniform(-0.5, -0.35)
    body = _poly((-0.95, 0.25), (-0.95, -0.02), (-0.6, -0.1), (0.6, -0.1), (0.95, 0.02), (0.95, 0.25))
    cabin = _poly((-0.6, -0.08), (-0.35, roof), (0.25, roof), (0.55, -0.08))
    return [body, cabin, *(_ellipse(x, 0.28, 0.2, 0.2) for x in (-0.55, 0.55))]


def _bird(random: Random) -> list[Polygon]:
    """A round body with a beak, a raised wing, a tail and thin legs."""
    lift = random.uniform(-0.95, -0.55)
    wing = _poly((-0.3, -0.05), (-0.15, lift), (0.25, -0.1))
    tail = _poly((-0.45, 0), (-0.95, random.uniform(-0.2, 0.15)), (-0.9, 0.25), (-0.4, 0.2))
    head, beak = _ellipse(0.5, -0.15, 0.2, 0.19), _poly((0.65, -0.22), (0.95, -0.1), (0.65, -0.05))
    return [_ellipse(0, 0.1, 0.5, 0.28), head, beak, wing, tail, *_legs(random, (-0.05, 0.1), 0.35, 0.35, 0.05)]


def _cat(random: Random) -> list[Polygon]:
    """Sitting: a tall body, a round head with pointed ears, a tail that curls up."""
    head = random.uniform(0.28, 0.36)
    ears = [_poly((s * 0.06, -0.65), (s * 0.3, -0.95), (s * 0.34, -0.5)) for s in (1, -1)]
    curl = random.uniform(0.65, 0.95)
    tail = [_bar(0.3, 0.8, curl, 0.6, 0.13), _bar(curl, 0.62, curl - 0.1, random.uniform(-0.1, 0.2), 0.12)]
    body = _poly((-0.25, -0.3), (0.25, -0.3), (0.45, 0.9), (-0.45, 0.9))
    return [body, _ellipse(0, -0.42, head, head * 0.9), *ears, *tail]


def _deer(random: Random) -> list[Polygon]:
    """A slim body on long thin legs, a steep neck, antlers."""
    neck = [_bar(0.4, 0, 0.6, -0.5, 0.18), _ellipse(0.68, -0.5, 0.2, 0.11)]
    antlers = []
    for lean in (-0.2, 0.18):
        top = random.uniform(-1.0, -0.85)
        antlers.append(_bar(0.58, -0.55, 0.58 + lean, top, 0.06))
        antlers.append(_bar(0.58 + lean / 2, -0.75, 0.58 + 1.8 * lean, -0.78, 0.05))
    return [_ellipse(0, 0.05, 0.52, 0.22), *neck, *antlers, *_legs(random, (-0.42, -0.3, 0.3, 0.42), 0.15, 0.75, 0.07)]


def _dog(random: Random) -> list[Polygon]:
    """A long body on short legs, a big head with a muzzle and a hanging ear, a tail held up."""
    head = [_ellipse(0.6, -0.25, 0.26, 0.23), _ellipse(0.85, -0.15, 0.17, 0.11), _bar(0.5, -0.35, 0.42, 0.05, 0.16)]
    tail = _bar(-0.55, 0.05, -0.9, random.uniform(-0.6, -0.3), 0.11)
    return [_ellipse(0, 0.15, 0.6, 0.25), *head, tail, *_legs(random, (-0.45, -0.28, 0.28, 0.45), 0.3, 0.4, 0.14)]


def _frog(random: Random) -> list[Polygon]:
    """A wide, low body with two bulging eyes and folded hind legs."""
    eyes = [_ellipse(s * random.uniform(0.28, 0.36), -0.28, 0.15, 0.16) for s in (1, -1)]
    thighs = [_ellipse(s * 0.68, 0.25, 0.27, 0.2) for s in (1, -1)]
    feet = [_bar(s * 0.6, 0.42, s * random.uniform(0.8, 1.0), 0.5, 0.1) for s in (1, -1)]
    forelegs = [_bar(s * 0.2, 0.35, s * 0.25, 0.55, 0.12) for s in (-1, 1)]
    return [_ellipse(0, 0.1, 0.6, 0.36), *eyes, *thighs, *feet, *forelegs]


def _horse(random: Random) -> list[Polygon]:
    """A heavy body on long legs, a thick neck with a long head, a hanging tail."""
    neck = _poly((0.25, -0.15), (0.55, -0.75), (0.75, -0.65), (0.6, 0.15))
    head = _poly((0.52, -0.8), (0.7, -0.82), (1.0, -0.45), (0.88, -0.35), (0.6, -0.55))
    tail = _bar(-0.6, -0.1, random.uniform(-0.9, -0.72), 0.5, 0.14)
    return [_ellipse(0, 0, 0.62, 0.29), neck, head, tail, *_legs(random, (-0.48, -0.32, 0.3, 0.46), 0.12, 0.8, 0.12)]


def _ship(random: Random) -> list[Polygon]:
    """A long hull, a superstructure, a funnel or a mast."""
    hull = _poly((-0.95, 0.1), (0.98, 0.1), (0.7, 0.5), (-0.75, 0.5))
    left, height = random.uniform(-0.55, -0.2), random.uniform(0.25, 0.4)
    house = _poly((left, 0.1), (left, 0.1 - height), (left + 0.6, 0.1 - height), (left + 0.6, 0.1))
    funnel = _bar(left + 0.3, 0.12 - height, left + 0.3, -0.4 - height, random.uniform(0.06, 0.22))
    return [hull, house, funnel]


def _truck(random: Random) -> list[Polygon]:
    """From the side: a tall box, a lower cab before it, three wheels."""
    top, front = random.uniform(-0.65, -0.5), random.uniform(0.3, 0.42)
    box = _poly((-0.95, 0.25), (-0.95, top), (front, top), (front, 0.25))
    cab = _poly((front + 0.04, 0.25), (front + 0.04, -0.3), (front + 0.3, -0.3), (0.95, -0.02), (0.95, 0.25))
    return [box, cab, *(_ellipse(x, 0.32, 0.16, 0.16) for x in (-0.7, -0.35, 0.65))]


_DRAWN = (_airplane, _automobile, _bird, _cat, _deer, _dog, _frog, _horse, _ship, _truck)
FIGURES = {figure.__name__.lstrip("_"): figure for figure in _DRAWN}


def draw(name: str, random: Random) -> npt.NDArray[np.uint8]:
    """Draw one image of a class: uint8 [32, 32, 3]."""
    canvas = Image.new("RGB", (SIZE * _SUPERSAMPLING,) * 2, _random_colour(random))
    pen = ImageDraw.Draw(canvas)
    _clutter(pen, random, count=int(random.integers(1, 4)), largest=0.5)
    # In rare cases the corner is clutter: then the figure may blend into its background, as real ones do.
    fill, transform = _contrasting_colour(np.asarray(canvas)[0, 0], random), _placement(random)
    for polygon in FIGURES[name](random):
        shade = tuple(int(c) for c in np.clip(np.array(fill) + random.integers(-18, 19), 0, 255))
        wobble = random.normal(0, 0.02, polygon.shape)
        pen.polygon(_to_pixels(transform(polygon + wobble)), fill=shade)
    _clutter(pen, random, count=int(random.integers(0, 3)), largest=0.16)
    small = np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32)
    noisy = small + random.normal(0, random.uniform(4, 22), small.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _placement(random: Random) -> Callable[[Polygon], Polygon]:
    angle = random.normal(0, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = random.uniform(0.55, 0.95) * np.array([random.choice([-1, 1]) * random.uniform(0.85, 1.1), 1])
    shift = random.uniform(-0.2, 0.2, 2)
    return lambda polygon: (polygon * scale) @ turn.T + shift


def _clutter(pen: ImageDraw.ImageDraw, random: Random, count: int, largest: float) -> None:
    for _ in range(count):
        shape = (int(random.integers(3, 5)), 2)
        corners = random.uniform(-largest, largest, shape) + random.uniform(-1, 1, 2)
        pen.polygon(_to_pixels(corners), fill=_random_colour(random))


def _to_pixels(points: Polygon) -> list[tuple[float, float]]:
    return [(x, y) for x, y in ((points + 1) * (SIZE * _SUPERSAMPLING / 2)).tolist()]


def _random_colour(random: Random) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


def _contrasting_colour(background: npt.NDArray[np.uint8], random: Random) -> tuple[int, int, int]:
    while True:
        candidate = _random_colour(random)
        if np.abs(np.subtract(candidate, background)).sum() > 150:
            return candidate
