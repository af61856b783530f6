"""Whether networks gain if they see, instead of the whole view, a window that follows the motion.

    python -m tests.benchmarks.focus --data DIR [--json FILE]

Cropping at inference where the motion is, without training, is MoCrop's idea (2025).
Here the window is causal: its centre and size come from the mean and the spread of the flow so far,
with a decaying memory, less the median flow, which is the camera's. Every eighth moment of the
first five seconds of the validation and test clips of the bundle's split is labelled by the live
chain's own preprocessing and networks. Each clip is taken as it is, and `far`: in half the size, in
a larger still picture. The threshold of each row is chosen on the validation clips of other actions
by the rule of the export.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, load_bundle
from edge.commands.self_check.choice import choose_way
from edge.devices import Device, open_device
from edge.inputs.builder import fill_input
from edge.inputs.pace import Pace, pace
from edge.motion.preprocessor import Preprocessor, Step
from edge.motion.quantise import FlowBytes, to_pixels
from edge.sources.source import open_source
from edge.terminal import track
from edge.text import NO_CLASS
from edge.video.frames import Frame, Plane, center_crop, resize_to_model
from export.threshold import Replay, choose_threshold, reached, with_threshold
from tests.benchmarks.decision import Logits, as_replay, save, split_clips
from tests.benchmarks.result import write_result
from train.data.clips import Clip

STRIDE = 8  # moments; those of a clip are alike, so more would say little more
FRAMES = 125  # of each clip
PARTS = ("validation", "test")
DISTANCES = ("near", "far")
STILL_PX = 0.3  # slower pixels do not count as motion
PRIOR_PX = 0.002  # of motion everywhere: without any other, the window is the whole view
BACKGROUND_LUMA = 100
MEMORY_S = 1.0


class Window(NamedTuple):
    """In shares of the view: its left and top edge, and its size in both directions."""

    left: float
    top: float
    size: float


@dataclass(frozen=True, slots=True)
class Setting:
    """smallest: size of the window, a share of the view. margin: 1 is the window over which the
    motion would be uniform if it had the same spread."""

    smallest: float
    margin: float = 1.0

    @property
    def name(self) -> str:
        return f"at least {self.smallest:g}, margin {self.margin:g}"


SETTINGS = (Setting(0.6), Setting(0.75))


@dataclass
class Focus:
    """The window of one clip. Smooth in time: it is made of sums that decay with MEMORY_S."""

    setting: Setting
    _sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))

    def push(self, speed: NDArray[np.float32], seconds: float) -> Window:
        """The window after another flow. speed: (h, w), motion beyond STILL_PX; seconds: since the
        flow before."""
        height, width = speed.shape
        y = ((np.arange(height) + 0.5) / height)[:, None]
        x = ((np.arange(width) + 0.5) / width)[None, :]
        weights = speed / speed.size + PRIOR_PX / speed.size
        new = np.array([(weights * part).sum() for part in (1.0, x, y, x * x, y * y)])
        keep = np.exp(-seconds / MEMORY_S)
        self._sums = keep * self._sums + (1 - keep) * new
        total, *moments = self._sums
        mean_x, mean_y, square_x, square_y = (moment / total for moment in moments)
        spread = np.sqrt(max(square_x - mean_x**2, square_y - mean_y**2))
        # the side of a uniform square is sqrt(12) times its deviation
        size = float(np.clip(self.setting.margin * np.sqrt(12) * spread, self.setting.smallest, 1))
        left, top = (float(np.clip(c - size / 2, 0, 1 - size)) for c in (mean_x, mean_y))
        return Window(left, top, size)


def speed_of(flow: FlowBytes, scale: Any) -> NDArray[np.float32]:
    """Speed beyond STILL_PX of every fourth row and column, without the median motion."""
    pixels = to_pixels(flow[:, ::4, ::4], scale)
    own = pixels - np.median(pixels, axis=(1, 2), keepdims=True)
    return np.maximum(np.hypot(*own) - STILL_PX, 0)  # type: ignore[no-any-return]


def cut(frame: Frame, window: Window, within: tuple[int, int, int, int]) -> Frame:
    """The part of a frame in a window of `within` (top, left, height, width), at whole chroma
    samples, as views."""
    top, left, height, width = within
    first_y, first_x = top + int(window.top * height), left + int(window.left * width)
    first_y, first_x = first_y - first_y % 2, first_x - first_x % 2
    rows, columns = (int(window.size * side) // 2 for side in (height, width))
    luma = np.s_[first_y : first_y + 2 * rows, first_x : first_x + 2 * columns]
    chroma = np.s_[first_y // 2 : first_y // 2 + rows, first_x // 2 : first_x // 2 + columns]
    return replace(frame, y=frame.y[luma], u=frame.u[chroma], v=frame.v[chroma])


def cut_flow(flow: FlowBytes, window: Window) -> FlowBytes:
    """The flow in a window at its full size. Vectors grow with the picture, as in training."""
    height, width = flow.shape[1:]
    top, left = int(window.top * height), int(window.left * width)
    rows, columns = int(window.size * height), int(window.size * width)
    parts = flow[:, top : top + rows, left : left + columns]
    out = [cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR) for part in parts]
    table = np.clip(np.floor((np.arange(256) - 127.5) / window.size + 128), 0, 255)
    table[128] = 128  # no motion stays no motion
    return table.astype(np.uint8)[np.stack(out)]


def far(frame: Frame, name: str) -> Frame:
    """The frame in a still grey picture of twice its sides, at a place that depends on the clip."""
    rng = np.random.default_rng(list(name.encode()))
    height, width = frame.size_hw
    top, left = 2 * int(rng.integers(height // 2)), 2 * int(rng.integers(width // 2))

    def place(plane: Plane, level: int, shift: int) -> Plane:
        out = np.full((2 * plane.shape[0], 2 * plane.shape[1]), level, np.uint8)
        rows, columns = plane.shape
        out[top >> shift : (top >> shift) + rows, left >> shift : (left >> shift) + columns] = plane
        return out

    return replace(
        frame,
        y=place(frame.y, BACKGROUND_LUMA, 0),
        u=place(frame.u, 128, 1),
        v=place(frame.v, 128, 1),
    )


def steps(
    bundle: Bundle, clip: Clip, distance: str
) -> Iterator[tuple[Frame, Step, float | None, bool]]:
    """(decoded frame, step, seconds since the last frame, whether a gap is before it)."""
    manifest = bundle.manifest
    preprocessor = Preprocessor(manifest.geometry, manifest.motions)
    last_s: float | None = None
    with open_source(str(clip.path)) as source:
        for decoded in islice(source, FRAMES):
            follows = pace(last_s, decoded, manifest.interval_s)
            if follows is Pace.TOO_SOON:
                continue
            frame = far(decoded, clip.name) if distance == "far" else decoded
            if follows is Pace.AFTER_GAP:
                preprocessor.clear()
            gap = follows is Pace.AFTER_GAP
            seconds = None if gap or last_s is None else frame.time_s - last_s
            last_s = frame.time_s
            yield frame, preprocessor.push(frame), seconds, gap


def label_clip(device: Device, bundle: Bundle, clip: Clip, distance: str) -> Logits:
    """The logits of each view, by its name, at every eighth moment of a clip."""
    manifest = bundle.manifest
    temporal = manifest.streams["temporal"].input
    flows: deque[FlowBytes] = deque(maxlen=temporal.stack)
    focuses = [Focus(setting) for setting in SETTINGS]
    rows: dict[str, list[NDArray[np.float32]]] = {}
    times_s: list[float] = []
    gaps, moments = set[int](), 0
    for frame, step, seconds, gap in steps(bundle, clip, distance):
        if gap:
            flows.clear()
            focuses = [Focus(setting) for setting in SETTINGS]
            gaps.add(len(times_s))
        if seconds is None:
            continue
        flow = step.flows[temporal.motion]
        flows.append(flow)
        speed = speed_of(flow, temporal.motion)
        windows = [focus.push(speed, seconds) for focus in focuses]
        if len(flows) < temporal.stack:
            continue
        moments += 1
        if moments % STRIDE:
            continue
        times_s.append(frame.time_s)
        for name, (stream, view) in views(bundle, frame, step, flows, windows):
            tensor = fill_input(
                manifest.streams[stream].input,
                manifest.geometry.size_hw,
                manifest.streams[stream].normalisation,
                view,
            )
            rows.setdefault(name, []).append(device.logits(stream, tensor[None], [0.0])[0])
    label = clip.label if clip.label in manifest.classes else NO_CLASS
    streams = {name: np.stack(values) for name, values in rows.items()}
    return Logits(label, np.array(times_s), frozenset(gaps - {0}), streams)


def views(
    bundle: Bundle,
    frame: Frame,
    step: Step,
    flows: Iterable[FlowBytes],
    windows: list[Window],
) -> Iterator[tuple[str, tuple[str, list[Step]]]]:
    """(name, (stream, steps)) of everything that a network is shown at one moment."""
    manifest = bundle.manifest
    geometry, motion = manifest.geometry, manifest.streams["temporal"].input.motion
    within = center_crop(frame.size_hw, geometry.aspect, frame.pixel_aspect)
    yield "spatial", ("spatial", [step])
    yield "temporal", ("temporal", [replace(step, flows={motion: flow}) for flow in flows])
    for setting, window in zip(SETTINGS, windows, strict=True):
        sharp = resize_to_model(cut(frame, window, within), geometry)
        yield f"spatial {setting.name}", ("spatial", [Step(sharp)])
        zoomed = [replace(step, flows={motion: cut_flow(flow, window)}) for flow in flows]
        yield f"temporal {setting.name}", ("temporal", zoomed)


def collect(bundle: Bundle, part: str, distance: str, clips: list[Clip], folder: Path) -> None:
    device = open_device("cpu", bundle, choose=choose_way)
    found = []
    for clip in track(clips, f"{part}, {distance}", len(clips)):
        labelled = label_clip(device, bundle, clip, distance)
        if len(labelled.times_s):
            found.append(labelled)
    device.close()
    save(folder / f"{part}-{distance}.npz", found)


def load(file: Path) -> list[Logits]:
    with np.load(file) as arrays:
        names = {key.rpartition("_")[0] for key in arrays} - {"", "times", "gaps"}
        return [
            Logits(
                str(label),
                arrays[f"times_{n}"],
                frozenset(arrays[f"gaps_{n}"].tolist()),
                {name: arrays[f"{name}_{n}"] for name in names},
            )
            for n, label in enumerate(arrays["labels"])
        ]


def pairs() -> Iterator[tuple[str, str, str]]:
    """(row, spatial view, temporal view)."""
    yield "whole view", "spatial", "temporal"
    for setting in SETTINGS:
        spatial, temporal = f"spatial {setting.name}", f"temporal {setting.name}"
        yield f"{setting.name}, spatial alone", spatial, "temporal"
        yield f"{setting.name}, temporal alone", "spatial", temporal
        yield f"{setting.name}, both", spatial, temporal


def judge(bundle: Bundle, parts: dict[str, list[Logits]], pair: tuple[str, str]) -> dict[str, Any]:
    """What a pair of views reaches; the threshold is chosen on validation clips alone."""
    classes = bundle.manifest.classes

    def of(part: str) -> list[Replay]:
        only = [
            replace(clip, streams={name: clip.streams[name] for name in pair})
            for clip in parts[part]
        ]
        return [as_replay(clip, classes) for clip in only]

    replays = {part: of(part) for part in PARTS}
    others = [clip for clip in replays["validation"] if clip.truth is None]
    spec = bundle.manifest.decision
    plain = spec.model_copy(update={"class_thresholds": None})
    chosen = with_threshold(plain, choose_threshold(plain, others))
    row: dict[str, Any] = {"threshold": chosen.threshold}
    for part, clips in replays.items():
        own = [clip for clip in clips if clip.truth is not None]
        rest = [clip for clip in clips if clip.truth is None]
        right = np.concatenate([c.evidence.argmax(axis=1) == c.truth for c in own])
        fixed, fitted = reached(own, rest, spec), reached(own, rest, chosen)
        row[part] = {
            "best_class_right": round(float(right.mean()), 4),
            "bundle": [fixed.right.share, fixed.wrong.share, fixed.other.share],
            "chosen": [fitted.right.share, fitted.wrong.share, fitted.other.share],
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("edge/bundles/ucf101-mini"))
    parser.add_argument("--data", type=Path, required=True, help="UCF101")
    parser.add_argument("--logits", type=Path, default=Path("work/focus"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    clips = split_clips(bundle, arguments.data)
    rows: dict[str, dict[str, Any]] = {}
    for distance in DISTANCES:
        parts = {}
        for part in PARTS:
            file = arguments.logits / f"{part}-{distance}.npz"
            if not file.exists():
                collect(bundle, part, distance, clips[part], arguments.logits)
            parts[part] = load(file)
        rows[distance] = {}
        for name, *pair in pairs():
            row = rows[distance][name] = judge(bundle, parts, (pair[0], pair[1]))
            print(f"{distance:5}{name:36}", *(f"{p}: {row[p]}" for p in PARTS))
    if arguments.json:
        write_result(arguments.json, {"stride": STRIDE, "frames": FRAMES, "rows": rows})


if __name__ == "__main__":
    main()
