"""Recurrent fusion in a run: what it remembers, for how long, and of which camera."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.decision.fuser import Fuser, open_fuser
from edge.decision.fusion import softmax
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer, RunConfig, label_frame, label_video
from edge.devices import Device, open_device
from edge.devices.fusion_network import open_fusion_network
from edge.devices.inference import StatefulNetwork
from edge.video.frames import Frame
from tests.support.bundles import STREAMS, noise_frames
from tests.support.recurrent import INTERVAL_S, recurrent_bundle
from train.evaluation.recurrent import RecurrentFusion

TWO = {name: STREAMS["three"][name] for name in ("spatial", "temporal")}


@dataclass(frozen=True)
class Opened:
    bundle: Bundle
    torch: RecurrentFusion
    network: StatefulNetwork
    device: Device


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    bundle, made = recurrent_bundle(tmp_path_factory.mktemp("recurrent") / "b", TWO)
    network = open_fusion_network(bundle)
    assert network is not None
    with closing(open_device("cpu", bundle)) as device:
        yield Opened(bundle, made, network, device)


def random_logits(count: int) -> list[dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(3)
    return [{name: rng.normal(0, 2, 3).astype(np.float32) for name in TWO} for _ in range(count)]


def offline(opened: Opened, logits: list[dict[str, NDArray[np.float32]]]) -> NDArray[np.float32]:
    """The scores (C,) of the last snippet of a clip, as training computes them."""
    rows = [np.concatenate([row["temporal"], row["spatial"]]) for row in logits]
    with torch.inference_mode():
        fused = opened.torch(torch.from_numpy(np.stack(rows)[None]))[0, -1].numpy()
    return softmax(fused, opened.bundle.manifest.fusion.temperature)


def fuser_of(opened: Opened) -> Fuser:
    return open_fuser(opened.bundle.manifest, opened.network)


@pytest.mark.slow
def test_each_snippet_has_the_scores_of_the_causal_network(opened: Opened) -> None:
    fuser, logits = fuser_of(opened), random_logits(19)
    for count, row in enumerate(logits, 1):
        scores = fuser.push(count * INTERVAL_S, row)
        np.testing.assert_allclose(scores.fused, offline(opened, logits[:count]), atol=1e-5)
        np.testing.assert_allclose(scores.streams["spatial"], softmax(row["spatial"], 1.0))
    # the order matters, so that the test above can fail
    assert np.abs(offline(opened, logits) - offline(opened, logits[::-1])).max() > 0.01


@pytest.mark.slow
def test_between_snippets_a_frame_follows_those_before_and_leaves_no_trace(opened: Opened) -> None:
    """At 25 frames a second every third is a snippet: memory is as long as it was in training."""
    fuser, logits = fuser_of(opened), random_logits(30)
    for index, row in enumerate(logits):
        scores = fuser.push(index / 25, row)
        seen = [*logits[: index + 1 : 3], *([] if index % 3 == 0 else [row])]
        np.testing.assert_allclose(scores.fused, offline(opened, seen), atol=1e-5)


def test_it_forgets_when_told_and_no_camera_knows_of_another(opened: Opened) -> None:
    first, second = fuser_of(opened), fuser_of(opened)
    logits = random_logits(8)
    for index in range(4):
        first.push(index * INTERVAL_S, logits[index])
        scores = second.push(index * INTERVAL_S, logits[4 + index])
    np.testing.assert_allclose(scores.fused, offline(opened, logits[4:]), atol=1e-5)
    after = first.push(1.0, logits[7]).fused
    np.testing.assert_allclose(after, offline(opened, [*logits[:4], logits[7]]), atol=1e-5)
    first.clear()
    alone = first.push(0.0, logits[7]).fused  # also where a file begins again
    np.testing.assert_allclose(alone, offline(opened, logits[7:]), atol=1e-5)
    assert np.abs(alone - after).max() > 0.01


@pytest.mark.slow
def test_a_run_of_hours_stays_in_range(opened: Opened) -> None:
    fuser, logits = fuser_of(opened), random_logits(50)
    for index in range(20_000):
        fuser.push(index * INTERVAL_S, logits[index % 50])
    late = [fuser.push((20_000 + k) * INTERVAL_S, row).fused for k, row in enumerate(logits)]
    fuser.clear()
    for index in range(100):
        fuser.push(index * INTERVAL_S, logits[index % 50])
    early = [fuser.push((100 + k) * INTERVAL_S, row).fused for k, row in enumerate(logits)]
    np.testing.assert_allclose(late, early, atol=1e-4)


def test_without_its_network_no_fusion_is_opened(opened: Opened) -> None:
    with pytest.raises(ValueError, match="its network is not open"):
        open_fuser(opened.bundle.manifest, None)


# In a run ----------------------------------------------------------------------------------------


def recognizer(opened: Opened, name: str = "") -> Recognizer:
    manifest, context = opened.bundle.manifest, opened.device.open_context()
    return Recognizer(manifest, context, RunConfig(), name, opened.network)


def scores_of(label: Label) -> NDArray[np.float32]:
    assert label.decision is not None
    return label.decision.scores


def of_file(opened: Opened, frames: list[Frame]) -> list[NDArray[np.float32]]:
    labels: list[Label] = []
    label_video(frames, recognizer(opened), labels.append)
    return [scores_of(label) for label in labels if label.decision is not None]


@pytest.mark.slow
def test_labels_of_a_file_are_those_of_the_causal_network(opened: Opened) -> None:
    frames = noise_frames(20, (96, 128))
    context, logits = opened.device.open_context(), []
    for frame in frames:
        inference = context.submit(frame, infer=True).result()
        if inference is not None:
            logits.append(dict(inference.logits))
    found = of_file(opened, frames)
    assert len(found) == len(logits) == 15
    for index, scores in enumerate(found):
        seen = [*logits[: index + 1 : 3], *([] if index % 3 == 0 else [logits[index]])]
        np.testing.assert_allclose(scores, offline(opened, seen), atol=1e-5)


def test_after_a_gap_a_file_is_as_if_it_began_there(opened: Opened) -> None:
    """Frames before the gap are still in flight when the one after it is submitted."""
    frames = noise_frames(24, (96, 128))
    later = [replace(frame, time_s=frame.time_s + 5) for frame in reversed(frames)]
    later = [replace(f, time_s=5 + i / 25, index=24 + i) for i, f in enumerate(later)]
    both, alone = of_file(opened, [*frames, *later]), of_file(opened, later)
    np.testing.assert_array_equal(both[19:], alone)
    np.testing.assert_array_equal(both[:19], of_file(opened, frames))


def test_cameras_on_one_network_have_states_of_their_own(opened: Opened) -> None:
    bright = noise_frames(16, (96, 128))
    clips = [bright, [replace(frame, y=frame.y // 2) for frame in bright]]
    together: list[list[NDArray[np.float32]]] = [[], []]
    recognizers = [recognizer(opened, name) for name in "ab"]
    for pair in zip(*clips, strict=True):
        for number, frame in enumerate(pair):

            def emit(label: Label, number: int = number) -> None:
                if label.decision is not None:
                    together[number].append(scores_of(label))

            label_frame(frame, recognizers[number], emit)
    for number, clip in enumerate(clips):
        np.testing.assert_array_equal(together[number], of_file(opened, clip))
    assert np.abs(np.array(together[0]) - together[1]).max() > 0.01
