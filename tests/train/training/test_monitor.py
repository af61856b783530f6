"""The monitor of a training run: TensorBoard events, log lines, learning curve."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edge.errors import TrainingError
from edge.motion.quantise import quantise
from edge.motion.spec import PRESETS
from edge.motion.stack import normalise_bytes, stack_flows
from tests.support.networks import make_spec
from train.training.monitor import Monitor, flow_grid, rgb_grid, write_curve

STEP = {"loss": 0.5, "rate": 1e-3, "samples_per_s": 9.0, "data_share": 0.1}


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "events"))
    accumulator.Reload()
    return accumulator


def test_scalars_after_a_resume_replace_those_of_the_same_steps(tmp_path: Path) -> None:
    with Monitor(tmp_path, "spatial", 6, 0) as monitor:
        for number in range(1, 5):
            monitor.step(number, STEP | {"loss": 1.0 / number})
    (written,) = (tmp_path / "events").iterdir()
    # files are read in the order of their names, which begin with the second of their creation
    written.rename(written.with_name(re.sub(r"tfevents\.\d+", "tfevents.1000000000", written.name)))
    with Monitor(tmp_path, "spatial", 6, 2) as monitor:  # the state was that of step 2
        for number in range(3, 7):
            monitor.step(number, STEP | {"loss": 9.0})
        monitor.epoch({"epoch": 1.0, "loss": 2.0, "top1": 0.75, "log_likelihood": -0.3}, 5, True)
    scalars = events(tmp_path)
    losses = [(row.step, round(row.value, 3)) for row in scalars.Scalars("step/loss")]
    assert losses == [(1, 1.0), (2, 0.5), (3, 9.0), (4, 9.0), (5, 9.0), (6, 9.0)]
    assert scalars.Scalars("epoch/top1")[0].value == 0.75


def test_the_log_has_one_line_per_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    with Monitor(tmp_path, "x", 4, 0) as monitor:
        monitor.step(1, STEP)
        monitor.epoch({"epoch": 1.0, "loss": 2.0, "top1": 0.75, "log_likelihood": -0.3}, 5, True)
        monitor.epoch({"epoch": 2.0, "loss": 1.0}, 7, False)
    assert caplog.messages == [
        "epoch 1  loss 2.000  validation top-1 0.750  log-likelihood -0.300  5 s  best so far",
        "epoch 2  loss 1.000  7 s",
    ]
    assert capsys.readouterr() == ("", "")


def test_a_red_frame_is_shown_red(tmp_path: Path) -> None:
    spec = make_spec("spatial")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in spec.normalisation.model_dump().values())
    red = (torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 32, 32) - mean) / std
    grid = rgb_grid(red[None], spec)
    assert torch.allclose(grid[:, 16, 16], torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    with Monitor(tmp_path, "x", 1, 0) as monitor:
        monitor.images(1, red[None], torch.tensor([[0.0, 1.0, 0.0]]), spec)
    image = events(tmp_path).Images("inputs")[0]
    picture = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture[16, 16].tolist() == [0, 0, 255]


def test_opposite_flow_has_opposite_colours() -> None:
    spec = make_spec("temporal")
    hues = []
    for speed in (5.0, -5.0):
        flow = np.zeros((2, 32, 32), np.float32)
        flow[0, :, 16:] = speed
        stack = [quantise(flow, PRESETS["fast"], PRESETS["fast"].interval_s)] * 10
        inputs = torch.from_numpy(normalise_bytes(stack_flows(stack), spec.normalisation))
        grid = (flow_grid(inputs[None], spec) * 255).byte().permute(1, 2, 0).numpy()
        assert grid.shape[1] > 3 * 32  # first, middle and last
        assert grid[16, 8].min() > 250  # where nothing moves it is white
        hues.append(int(cv2.cvtColor(grid[16:17, 28:29], cv2.COLOR_RGB2HSV)[0, 0, 0]) * 2)
    assert hues[0] == pytest.approx(0, abs=15)  # Middlebury's wheel: red is to the right
    assert abs(hues[0] - hues[1]) > 120


@pytest.mark.parametrize("epochs", [1, 8])
@pytest.mark.parametrize("validated", [True, False])
def test_the_learning_curve_shows_loss_and_top1(
    epochs: int, validated: bool, tmp_path: Path
) -> None:
    rows = [{"epoch": float(n + 1), "loss": 2.0 / (n + 1)} for n in range(epochs)]
    if validated:
        rows = [row | {"top1": 1 - 0.5 / row["epoch"], "log_likelihood": -1.0} for row in rows]
    rows[0]["loss"] = float("nan")
    write_curve(rows, tmp_path / "curve.png")
    picture = cv2.imread(str(tmp_path / "curve.png"))
    assert picture is not None
    assert picture.shape == (440, 770, 3)
    blue, red = picture[..., 0].astype(int), picture[..., 2].astype(int)
    assert (blue - red > 100).any()
    assert (red - blue > 100).any() == validated
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


def test_an_unwritable_events_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("mine")
    with pytest.raises(TrainingError, match="events: cannot be written"):
        Monitor(tmp_path, "x", 1, 0)
