"""Animations: paths that move over their ground, as a page to play with and as a GIF for slides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from downslope.core.errors import InputError
from downslope.reporting import gif, player
from downslope.reporting.hues import POINTS
from downslope.reporting.markup import Section
from downslope.reporting.scene import FRAMES, Scene, scene
from downslope.terrain.escapes.trials import Escapes
from downslope.terrain.functions import Function
from downslope.terrain.functions.own import around
from downslope.terrain.paths.paths import Paths
from downslope.terrain.slices.slice import Floats, Mark

if TYPE_CHECKING:
    from downslope.reporting.report import Report


@dataclass(frozen=True)
class Animation:
    """Something that moves, to be saved.

    Attributes:
        scene: What moves, and over what.
    """

    scene: Scene = field(repr=False)

    def section(self, key: str = "paths") -> Section:
        """Its part of a page."""
        return player.section(self.scene, key)

    @property
    def html(self) -> str:
        """A page of its own, which loads nothing from anywhere."""
        return self._page().html

    def gif(self, *, seconds: float = 6.0, width: int = 720, repeat: bool = True) -> bytes:
        """The animation as a GIF.

        Args:
            seconds: That it plays.
            width: Pixels.
            repeat: Whether it begins anew; else it ends on the whole picture.

        Raises:
            InputError: a number outside its domain, or matplotlib or Pillow are not installed.
        """
        return gif.rendered(self.scene, seconds=seconds, width=width, repeat=repeat)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the animation: ``.html`` to play and to stop, ``.gif`` for slides.

        Args:
            path: File to write.
            **options: Of `gif`, for a GIF.

        Raises:
            InputError: another ending, or a file that cannot be written.
        """
        target = Path(path)
        check_ending(target)
        if target.suffix.lower() != ".gif":
            return self._page().save(target)
        drawn = self.gif(**options)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(drawn)
        except OSError as error:
            raise InputError(
                f"animation path {target} cannot be written: {error.strerror or error}"
            ) from None
        return target

    def _repr_html_(self) -> str:
        return self._page()._repr_html_()  # pyright: ignore[reportPrivateUsage]

    def _page(self) -> Report:
        from downslope.reporting.report import report  # which shows animations too

        return report(self)


def check_ending(path: Path) -> None:
    """Refuse a file of a kind that no animation is written to.

    Raises:
        InputError: its ending.
    """
    if path.suffix.lower() not in (".html", ".htm", ".gif"):
        raise InputError(f"animation path {path}: its ending is {path.suffix!r}; it must be .html or .gif")


def animate(
    paths: Paths | Mapping[str, Any],
    function: Function | Callable[[Tensor], Tensor] | None = None,
    *,
    span: Sequence[Sequence[float]] | None = None,
    title: str = "",
    frames: int = FRAMES,
) -> Animation:
    """Paths that move over the function they go down on.

    Args:
        paths: Of `ds.paths`; or places by name, from the start on: shape (steps + 1, size), or (steps + 1,
            members, size); size 1, a ball on a curve, or 2, a point on contours.
        function: Of points of shape (..., size), giving (...); that of `ds.paths` where left out.
        span: Lower and upper end of each coordinate that is shown; a classic function's domain, else what the
            paths take up.
        title: Above the picture.
        frames: At most, at least 2.

    Raises:
        InputError: fewer than 2 frames, no path, one of another size than 1 or 2, or no function.
    """
    if isinstance(paths, Paths):
        function = function or paths.function
        paths = {way.label: way.at for way in paths.drawn}
    if function is None:
        raise InputError("places alone have no ground: animate(paths, function)")
    if frames < 2:
        raise InputError(f"frames={frames}: must be at least 2, the first and the last")
    return Animation(scene(paths, function, span=span, title=title, frames=frames))


def escaping(found: Escapes, *, span: Sequence[Sequence[float]] | None = None, title: str = "") -> Animation:
    """Members leaving their saddle or minimum, and the share that has left by step.

    Args:
        found: With paths: of ``ds.escape(..., keep=20)``.
        span: That is shown; a classic function's domain, else what the members take up until they leave.
            What goes beyond it is cut at its edge, and all ends soon after the last of those shown has left.
        title: Above the picture.

    Raises:
        InputError: no paths were kept, or the ground has more than 2 coordinates.
    """
    kept = {found.label(each): each for each in found if len(each.paths)}
    if not kept:
        raise InputError("no paths were kept to animate: ask for some, ds.escape(..., keep=20)")
    site = found.site
    left = {label: each.left[: each.paths.shape[1]] for label, each in kept.items()}
    last = max((each[np.isfinite(each)].max(initial=0) for each in left.values()), default=0)
    stop = int(1.15 * last) + 5 if last else None
    paths = {label: each.paths[:stop] for label, each in kept.items()}
    if span is None:
        span = site.domain or around([_until(paths[label], gone) for label, gone in left.items()])
    at = tuple(float(each) for each in site.point)
    kind = found.kind if found.kind in POINTS else "here"
    marks = [Mark(at, f"the {found.kind}", float(site.whole(site.point[None])[0]), kind)]

    def level(points: Tensor) -> Tensor:
        return site.whole(points.reshape(-1, points.shape[-1])).reshape(points.shape[:-1])

    heading = title or f"Who leaves: {site.name}"
    return Animation(scene(paths, level, span=span, title=heading, left=left, marks=marks))


def _until(paths: Floats, left: Floats) -> Floats:
    """The places of the members up to the step at which they left, shape (n, size)."""
    there = np.arange(len(paths))[:, None] <= left[None]
    return paths[there]
