"""A scene as a GIF for slides: drawn by matplotlib, written by Pillow."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from downslope.core.errors import InputError
from downslope.reporting.hues import COLOURS, EDGE, POINT_SIGNS, SIGNS, STROKES
from downslope.reporting.player import curve_range
from downslope.reporting.scene import Mover, Scene

_PAPER, _INK, _QUIET, _LINE = "#fbfbfd", "#1c1f24", "#5b616b", "#c3c7cf"
_REST = 1500
"""Milliseconds for which the last frame stays."""


def rendered(scene: Scene, *, seconds: float, width: int, repeat: bool) -> bytes:
    """The scene as the bytes of a GIF.

    Args:
        scene: What moves.
        seconds: That it plays, without the rest at its end.
        width: Pixels.
        repeat: Whether it begins anew.

    Raises:
        InputError: a number outside its domain, or matplotlib or Pillow are not installed.
    """
    _check(seconds, width)
    frames = _Stage(scene, width).frames()
    pause = max(20, round(1000 * seconds / len(frames) / 10) * 10)
    pauses = [pause] * (len(frames) - 1) + [_REST]
    written = io.BytesIO()
    again = {"loop": 0} if repeat else {}
    frames[0].save(
        written,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=pauses,
        optimize=True,
        **again,
    )
    return written.getvalue()


def _check(seconds: float, width: int) -> None:
    if not 0 < seconds <= 120:
        raise InputError(f"seconds={seconds}: must lie in (0, 120]")
    if not 200 <= width <= 2000:
        raise InputError(f"width={width}: must lie between 200 and 2000 pixels")
    lacks = [name for name, module in (("matplotlib", "matplotlib"), ("Pillow", "PIL")) if not _there(module)]
    if lacks:
        raise InputError(
            f"a GIF needs {' and '.join(lacks)}, which {'is' if len(lacks) == 1 else 'are'} not installed; "
            "pip install 'downslope[matplotlib,images]', or save as .html"
        )


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _of_matplotlib(module: str) -> Any:
    """A module of matplotlib, which is an extra."""
    return importlib.import_module(f"matplotlib.{module}")


class _Stage:
    """The picture: what stands still is drawn once, what moves on top of a copy of it."""

    def __init__(self, scene: Scene, width: int) -> None:
        self.scene = scene
        size = (7.2, 3.6) if scene.flat else (7.2, 4.0)
        figure: Any = _of_matplotlib("figure").Figure(figsize=size, dpi=width / size[0], facecolor=_PAPER)
        self.canvas: Any = _of_matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
        grid = figure.add_gridspec(1, 2, width_ratios=(3, 2))
        self.map: Any = figure.add_subplot(grid[0], facecolor=_PAPER)
        self.curve: Any = figure.add_subplot(grid[1], facecolor=_PAPER)
        self._ground()
        self._beside()
        self.moving = [self._artists(each, place) for place, each in enumerate(scene.movers)]
        heads = [each[1] for each in self.moving]
        self.legend: Any = figure.legend(
            heads, [_widest(each) for each in scene.movers], loc="lower center", ncols=min(len(heads), 4),
            frameon=False, fontsize=8.5, labelcolor=_INK, handletextpad=0.2, columnspacing=1.4,
        )  # fmt: skip
        rows = -(-len(heads) // 4)
        figure.suptitle(scene.title, x=0.02, ha="left", fontsize=11, fontweight="bold", color=_INK)
        figure.tight_layout(rect=(0, 0.02 + 0.06 * rows, 1, 0.98), w_pad=2.0)

    def frames(self) -> list[Any]:
        """An image for each frame, all of one palette, so that only what changed is written."""
        from PIL import Image

        told = any(each.told for each in self.scene.movers)
        still_too = [self.legend] if told else []
        parts = [part for _, head, curve, tracks in self.moving for part in (*tracks, head, curve)]
        for each in [*parts, *still_too]:
            each.set_animated(True)
        self.canvas.draw()
        still = self.canvas.copy_from_bbox(self.canvas.figure.bbox)
        raw: list[Any] = []
        for frame in range(len(self.scene.steps)):
            self.canvas.restore_region(still)
            for place, (mover, head, curve, tracks) in enumerate(self.moving):
                self._place(mover, frame, head, curve, tracks)
                if mover.told:
                    self.legend.get_texts()[place].set_text(f"{mover.label} {mover.told[frame]}")
            for each in [*parts, *still_too]:
                self.canvas.figure.draw_artist(each)
            raw.append(Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3].copy()))
        palette = _palette(len(self.moving), self.scene.flat)
        return [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in raw]

    def _place(self, mover: Mover, frame: int, head: Any, curve: Any, tracks: list[Any]) -> None:
        x = mover.places[:, :, 0]
        y = mover.heights if self.scene.flat else mover.places[:, :, 1]
        at = mover.at(self.scene.steps[frame])
        head.set_data(x[at], y[at])
        curve.set_data(range(at + 1), mover.curve[: at + 1])
        for member, track in enumerate(tracks):
            track.set_data(x[: at + 1, member], y[: at + 1, member])

    def _artists(self, mover: Mover, place: int) -> tuple[Mover, Any, Any, list[Any]]:
        colour, sign, stroke = COLOURS[place % 8], SIGNS[place % 8], STROKES[place % 8]
        members = mover.places.shape[1]
        (head,) = self.map.plot(
            [], [], sign, ls="none", ms=8 if members == 1 else 5, color=colour, mec=_PAPER, mew=0.7, zorder=5
        )
        (curve,) = self.curve.plot([], [], color=colour, lw=1.7, ls=stroke)
        count = members if members <= 3 and not self.scene.flat else 0
        tracks = [self.map.plot([], [], color=colour, lw=1.4, ls=stroke)[0] for _ in range(count)]
        return mover, head, curve, tracks

    def _ground(self) -> None:
        scene, axis = self.scene, self.map
        if scene.flat:
            axis.plot(scene.axes[0], scene.heights, color=_QUIET, lw=1.5)
            low, high = float(np.nanmin(scene.heights)), float(np.nanmax(scene.heights))
            axis.set_ylim(low - 0.08 * (high - low), high + 0.12 * (high - low))
            axis.set(xlabel="x", ylabel="f(x)")
        else:
            shade = scene.shade()
            levels = np.linspace(float(np.nanmin(shade)), float(np.nanmax(shade)), 17)
            axis.contourf(*scene.axes, shade, levels=levels, cmap=_pale())
            axis.contour(*scene.axes, shade, levels=levels, colors=_LINE, linewidths=0.5, linestyles="solid")
            for mark in scene.marks:
                least = mark.kind == "minimum"
                fill = "none" if least and "global" not in mark.name else "white"
                sign = POINT_SIGNS[mark.kind]
                axis.plot(*mark.at, sign, ms=12 if least else 8, mfc=fill, mec=EDGE, mew=0.9)
            axis.set(xlabel="x", ylabel="y", ylim=(scene.axes[1][0], scene.axes[1][-1]))
        axis.set_xlim(scene.axes[0][0], scene.axes[0][-1])
        _plain(axis)

    def _beside(self) -> None:
        low, high = curve_range(self.scene)
        self.curve.set(
            xlim=(0, max(self.scene.steps[-1], 1)), ylim=(low, high), xlabel="step", ylabel=self.scene.curve
        )
        _plain(self.curve)


def _palette(movers: int, flat: bool) -> Any:
    """Every colour that is drawn and its mixtures with what lies behind: none is lost to a neighbour."""
    from PIL import Image

    rgb: Callable[[str], tuple[float, ...]] = _of_matplotlib("colors").to_rgb
    paper: npt.NDArray[np.float64] = np.array(rgb(_PAPER))
    ground = [paper] if flat else [np.array(_pale()(share)[:3]) for share in np.linspace(0, 1, 17)]
    behind = [paper, *ground[::8]]
    drawn = [_INK, _QUIET, _LINE, EDGE, "#ffffff", *COLOURS[:movers]]
    mixed = [
        share * np.array(rgb(each)) + (1 - share) * back
        for each in drawn
        for back in behind
        for share in ((1.0, 0.65, 0.3) if back is behind[0] else (0.5,))
    ]
    colours = (np.clip([paper, *ground, *mixed], 0, 1) * 255).round().astype(np.uint8)
    found = Image.new("P", (1, 1))
    found.putpalette(np.unique(colours, axis=0).tobytes())
    return found


def _widest(mover: Mover) -> str:
    return f"{mover.label} {mover.told[-1]}" if mover.told else mover.label


def _pale() -> Any:
    return _of_matplotlib("colors").LinearSegmentedColormap.from_list("pale", ["#eef2f8", "#a9bedd"])


def _plain(axis: Any) -> None:
    axis.tick_params(labelsize=8, colors=_QUIET, length=2)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(_LINE)
    axis.xaxis.label.set(size=9, color=_INK)
    axis.yaxis.label.set(size=9, color=_INK)
