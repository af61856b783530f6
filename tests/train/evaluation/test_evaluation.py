"""`twostream evaluate` and `twostream fuse`: accuracy, errors, and the files they write."""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import suppress
from functools import partial
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.network import METADATA_KEY
from edge.decision.fusion import KINDS, Scores, softmax, weighted_mean
from edge.errors import DataError
from tests.support import tiny
from tests.support.command import assert_refused, twostream
from train.data.cache import fill_cache, open_cache
from train.data.ucf101 import load_split
from train.evaluation import fusion
from train.evaluation.fusion import fit_svm, search_weights, stacked, svm_scores
from train.evaluation.metrics import confusion, log_likelihood, right_by_class, top_k
from train.evaluation.papers import paper_view
from train.evaluation.plots import draw_confusion
from train.evaluation.protocol import ten_crops, torch_network
from train.evaluation.scores import SavedScores, load_scores, write_scores
from train.models.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    read_spec,
    read_tensors,
    write_tensors,
)

TRUTH = np.array([0, 1, 2, 2])
SCORES = np.array(
    [[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], np.float32
)


def test_top_k_has_values_computed_by_hand() -> None:
    assert [top_k(SCORES, TRUTH, k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]
    tie = np.full((1, 3), 1 / 3, np.float32)
    assert top_k(tie, np.array([0]), 1) == 1.0
    assert top_k(tie, np.array([1]), 1) == 0.0


def test_confusion_has_values_computed_by_hand() -> None:
    counts = confusion(SCORES, TRUTH)
    assert counts.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert right_by_class(counts, ("a", "b", "c")) == {"a": "1 of 1", "b": "0 of 1", "c": "1 of 2"}


@pytest.mark.parametrize("size", [3, pytest.param(101, marks=pytest.mark.slow)])
def test_the_confusion_matrix_is_drawn(size: int, tmp_path: Path) -> None:
    counts = np.eye(size, dtype=np.int64) * 4
    counts[0, 1] = 4
    draw_confusion(counts, tuple(f"Class{i}" for i in range(size)), "title", tmp_path / "c.png")
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert picture is not None
    assert min(picture.shape[:2]) > 400
    assert (picture[..., 0] > picture[..., 2] + 60).any()  # something is blue
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_ten_crops_are_corners_and_centre_and_their_mirror_images() -> None:
    crops = ten_crops((224, 224), (196, 196))
    assert {(c.height, c.width) for c in crops} == {(196, 196)}
    positions = [(c.top, c.left) for c in crops[:5]]
    assert positions == [(0, 0), (0, 28), (28, 0), (28, 28), (14, 14)]
    assert [(c.top, c.left) for c in crops[5:]] == positions
    assert [c.flip for c in crops] == [False] * 5 + [True] * 5


def one_hot(numbers: list[int], confidence: float, classes: int = 3) -> Scores:
    scores = np.full((len(numbers), classes), (1 - confidence) / (classes - 1), np.float32)
    scores[np.arange(len(numbers)), numbers] = confidence
    return scores


def test_the_correct_stream_gets_the_weight() -> None:
    right, wrong = one_hot([0, 1, 2, 2], 0.8), one_hot([1, 2, 0, 0], 0.8)
    assert search_weights({"a": right, "b": wrong}, TRUTH) == {"a": 1.0, "b": 0.0}
    assert search_weights({"a": wrong, "b": right}, TRUTH) == {"a": 0.0, "b": 1.0}
    assert search_weights({"a": right, "b": wrong}, TRUTH, minimum=0.3) == {"a": 0.7, "b": 0.3}
    assert search_weights({"a": wrong}, TRUTH) == {"a": 1.0}
    three = search_weights({"a": wrong, "b": right, "c": wrong}, TRUTH, minimum=0.2)
    assert three == {"a": 0.2, "b": 0.6, "c": 0.2}


@pytest.mark.slow
@given(st.integers(1, 5), st.integers(0, 2**16))
def test_moving_weight_between_two_streams_is_no_improvement(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 12)
    scores = {f"s{n}": softmax(rng.normal(0, 2, (12, 3)), 1.0) for n in range(count)}
    weights = search_weights(scores, truth, minimum=0.6 / count)
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= 0.6 / count - 1e-9

    def quality(weights: dict[str, float]) -> tuple[float, float]:
        fused = weighted_mean(scores, weights)
        return top_k(fused, truth, 1), log_likelihood(fused, truth) - 1e-5

    for one, other in permutations(scores, 2):
        if weights[one] - 0.05 >= 0.6 / count:
            moved = weights | {one: weights[one] - 0.05, other: weights[other] + 0.05}
            assert quality(moved) <= (quality(weights)[0], quality(weights)[1] + 1e-5)


def test_the_svm_corrects_a_stream_that_confuses_two_classes() -> None:
    """The spatial stream labels class 1 as class 0, with a score that dominates the average."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 90)
    spatial = one_hot([[0, 0, 2][t] for t in truth], 0.9)
    temporal = one_hot(list(truth), 0.5)
    noise = rng.uniform(0, 0.02, (2, 90, 3)).astype(np.float32)
    spatial, temporal = spatial + noise[0], temporal + noise[1]
    average = top_k(weighted_mean({"s": spatial, "t": temporal}, {"s": 0.5, "t": 0.5}), truth, 1)
    inputs = stacked({"s": spatial, "t": temporal})
    np.testing.assert_allclose(np.linalg.norm(inputs[:, :3], axis=1), 1, rtol=1e-5)
    machine = fit_svm(inputs[:60], truth[:60], inputs[60:], truth[60:])
    svm = top_k(svm_scores(machine, inputs[60:], 3), truth[60:], 1)
    assert svm == 1.0
    assert average < 0.8


def test_a_class_without_training_clips_gets_the_lowest_svm_score() -> None:
    truth = np.array([0, 2] * 10)
    inputs = stacked({"s": one_hot(list(truth), 0.9), "t": one_hot(list(truth), 0.8)})
    machine = fit_svm(inputs, truth, inputs[:0], truth[:0])
    scores = svm_scores(machine, inputs, 3)
    assert top_k(scores, truth, 1) == 1.0
    assert (scores[:, 1] == -np.inf).all()
    with pytest.raises(DataError, match="two classes"):
        fit_svm(inputs[::2], truth[::2], inputs[:0], truth[:0])


def test_an_svm_that_has_not_converged_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 60)
    inputs = rng.uniform(0, 1, (60, 6)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(fusion, "_ITERATIONS", 2)
        fit_svm(inputs, truth, inputs[:0], truth[:0])
    assert caplog.messages == ["the SVM of penalty 1 has not converged after 2 steps"]


NAMES = ["spatial", "slow_flow", "x_scores"]


def saved(clips: int = 4, samples: int = 2) -> SavedScores:
    rng = np.random.default_rng(0)
    header = {"classes": ["a", "b"], "split": 1, "samples": samples, "crops": 1}
    return SavedScores(
        tuple(f"a/{n}" for n in range(clips)),
        ("a", "b") * (clips // 2),
        ("train", "test") * (clips // 2),
        ("1", "2") * (clips // 2),
        header,
        np.tile(np.arange(samples, dtype=np.float32) * 0.3, (clips, 1)),
        {name: rng.random((clips, samples, 2), np.float32) for name in NAMES},
        {name: rng.random((clips, samples, 2), np.float32) for name in NAMES},
        {name: rng.random((clips, samples, 5), np.float32) for name in NAMES},
    )


def test_saved_scores_are_loaded_unchanged(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.npz", saved())
    loaded = load_scores(tmp_path / "s.npz")
    assert (loaded.names, loaded.labels, loaded.parts) == (
        saved().names,
        saved().labels,
        saved().parts,
    )
    assert list(loaded.scores) == list(loaded.features) == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(loaded.scores[name], saved().scores[name])
    assert loaded.part("test").truth.tolist() == [1, 1]


@pytest.mark.slow
@given(st.data())
def test_damaged_scores_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("scores") / "s.npz"
    write_scores(path, saved())
    content = bytearray(path.read_bytes())
    for _ in range(3):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    with suppress(DataError):  # any other error is a fault
        assert load_scores(path).scores


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("labels", np.array(["a", "b", "c", "a"]), "an unknown label or part"),
        ("labels", np.array(["a"]), "differ in length"),
        ("spatial_scores", np.zeros((4, 2, 3), np.float32), "has shape"),
        ("spatial_scores", np.full((4, 2, 2), np.nan, np.float32), "finite"),
        ("spatial_scores", np.zeros((4, 2, 2), np.float64), "float32"),
        ("header", np.array('{"format": 1}'), "format 1, expected 3; evaluate again"),
        ("times_s", np.zeros((4, 1), np.float32), "times_s is float32 of shape"),
        ("times_s", np.full((4, 2), np.inf, np.float32), "times_s is not finite"),
        ("header", np.array("["), "not a scores file"),
        ("header", np.array("[" * 100_000), "not a scores file"),
        ("names", np.array([object()] * 4), "not a scores file"),
    ],
)
def test_inconsistent_scores_are_refused(
    key: str, value: np.ndarray, says: str, tmp_path: Path
) -> None:
    write_scores(tmp_path / "s.npz", saved())
    with np.load(tmp_path / "s.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(tmp_path / "s.npz", allow_pickle=True, **(arrays | {key: value}))
    with pytest.raises(DataError, match=says):
        load_scores(tmp_path / "s.npz")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set. The test list of split 2 is the training list of split 1."""
    root = tiny.write_dataset(tmp_path_factory.mktemp("ucf"))
    lists = root / "ucfTrainTestlist"
    shutil.copy(lists / "trainlist01.txt", lists / "testlist02.txt")
    shutil.copy(lists / "testlist01.txt", lists / "trainlist02.txt")
    return root


@pytest.fixture(scope="module")
def runs(data: Path) -> dict[str, Path]:
    return {
        stream: tiny.train(data, data / "work", stream, "schedule.epochs=3").parent
        for stream in ("spatial", "temporal")
    }


@pytest.mark.slow
def test_both_streams_are_evaluated_saved_and_fused(
    data: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    words = ["evaluate", data, "--cache", data / "cache", "--samples", 3, "--for-fusion"]
    words += [word for stream, run in runs.items() for word in ("--network", f"{stream}={run}")]
    files = {"scores": "s.npz", "report": "r.json", "confusion": "c.png"}
    words += [word for key, name in files.items() for word in (f"--{key}", tmp_path / name)]
    done = twostream(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "test, split 1: 2 clips, 3 samples of each, 1 crop"
    assert [line.split()[0] for line in lines[1:4]] == ["spatial", "temporal", "fused"]
    report = json.loads((tmp_path / "r.json").read_text())
    assert float(lines[3].split()[2]) == report["fused"]["top1"]
    assert report["checkpoints"]["spatial"]["file"].startswith("003-")
    saved_scores = load_scores(tmp_path / "s.npz")
    assert saved_scores.parts.count("train") == 6
    test = saved_scores.part("test")
    assert len(test.names) == 2
    mean = np.mean([test.scores[stream].mean(axis=1) for stream in runs], axis=0)
    assert report["fused"]["top1"] == top_k(mean, test.truth, 1)
    assert cv2.imread(str(tmp_path / "c.png")) is not None
    fused = twostream(
        "fuse", tmp_path / "s.npz", "--out", tmp_path / "f.safetensors", "--report", tmp_path / "f"
    )
    assert fused.returncode == 0, fused.stderr
    methods = [line.rpartition("top-1")[0].strip() for line in fused.stdout.splitlines()[1:-2]]
    streams, ways = ["spatial", "temporal"], ["average", *KINDS, "svm"]
    chosen, rule = fused.stdout.splitlines()[-2:]
    assert chosen == "chosen: arithmetic; weights: spatial 0.5, temporal 0.5"
    assert rule == ("rule: arithmetic, equal weights: 2 clips of 2 groups are too few to choose by")
    assert methods == [*streams, *ways, "recurrent causal", "recurrent whole"]
    assert json.loads((tmp_path / "f").read_text())["average"]["top1"] == report["fused"]["top1"]
    from train.evaluation.recurrent import load_recurrent

    network, origin = load_recurrent(tmp_path / "f.safetensors")
    assert network.classes == tiny.CLASSES
    assert origin.streams == ("spatial", "temporal")
    assert origin.checkpoints["spatial"] == report["checkpoints"]["spatial"]["sha256"]
    # 16 frames, the first ten have no stack: three snippets of six frames at 25 a second
    assert origin.interval_s == pytest.approx(0.1, abs=0.021)


@pytest.mark.slow
def test_clips_that_were_trained_on_are_refused(data: Path, runs: dict[str, Path]) -> None:
    words = ("evaluate", data, "--network", f"spatial={runs['spatial']}", "--cache", data / "cache")
    assert_refused(twostream(*words, "--split", 2), "was trained on split 1", "--other-split")
    done = twostream(*words, "--split", 2, "--other-split", "--samples", 1, "--crops", 10)
    assert done.returncode == 0, done.stderr
    assert "8 clips, 1 samples of each, 10 crops" in done.stdout
    assert "not comparable" in done.stdout
    lists = data / "ucfTrainTestlist"
    before = (lists / "testlist01.txt").read_text()
    train = (lists / "trainlist01.txt").read_text()
    try:  # the lists have changed since
        (lists / "testlist01.txt").write_text("Diving/v_Diving_g09_c01.avi\n")
        (lists / "trainlist01.txt").write_text(train.replace("Diving/v_Diving_g09_c01.avi\n", ""))
        refused = twostream(*words)
    finally:
        (lists / "testlist01.txt").write_text(before)
        (lists / "trainlist01.txt").write_text(train)
    assert refused.returncode == 2
    assert "the spatial network was trained on 1 of the test clips" in refused.stderr


@pytest.mark.slow
def test_the_protocol_of_a_paper_weighs_logits_of_cut_crops(
    data: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    words = ["evaluate", data, "--cache", data / "cache", "--protocol", "tsn"]
    words += [word for stream, run in runs.items() for word in ("--network", f"{stream}={run}")]
    files = ("--samples", 2, "--scores", tmp_path / "s.npz", "--report", tmp_path / "r.json")
    done = twostream(*words, *files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "test, split 1: 2 clips, 2 samples of each, 10 crops",
        "protocol tsn: logits are averaged; fusion: spatial 1, temporal 1.5",
    ]
    test, report = load_scores(tmp_path / "s.npz"), json.loads((tmp_path / "r.json").read_text())
    assert test.header["protocol"] == report["protocol"] == "tsn"
    spatial, temporal = (test.logits[stream].mean(axis=1) for stream in runs)
    fused = spatial + 1.5 * temporal
    assert report["fused"]["confusion"] == confusion(fused, test.truth).tolist()
    # the network sees 64 px of frames 98 x 74, each crop computed here from the cache
    file = find_checkpoint(runs["temporal"])
    network, spec, _ = load_checkpoint(file)
    view = spec.model_copy(update={"geometry": paper_view(spec.geometry)})
    assert view.geometry.size_hw == (74, 98)
    clip = next(c for c in load_split(data, 1).test if c.name == test.names[0])
    (cached,) = fill_cache(open_cache(data / "cache", view), [clip], 10)
    (motion,) = cached.motions
    newest = 15  # of 16 frames
    flows = [step.flows[motion] for step in cached.steps(newest, spec.input.history + 1)[1:]]
    (mean,), (std,) = spec.normalisation.mean, spec.normalisation.std
    inputs = []
    for flip in (False, True):
        for top, left in ((0, 0), (0, 34), (10, 0), (10, 34), (4, 16)):
            cut = np.stack(flows)[:, :, top : top + 64, left : left + 64]  # (L, 2, 64, 64)
            u, v = cut[:, 0], cut[:, 1]
            cut = np.concatenate([255 - u[..., ::-1], v[..., ::-1]] if flip else [u, v])
            inputs.append((cut.astype(np.float32) / 255 - mean) / std)
    logits = torch_network(network)(np.stack(inputs).astype(np.float32)).mean(axis=0)
    np.testing.assert_allclose(test.logits["temporal"][0, -1], logits, rtol=1e-3, atol=1e-3)
    assert_refused(twostream(*words, "--crops", 10), "--crops 10", "tsn has ten crops")
    named = ("--network", f"slow={runs['temporal']}")
    assert_refused(twostream(*words, *named), "--protocol tsn", "no weight for slow")


def trained_also_on(run: Path, names: set[str], out: Path) -> Path:
    """The checkpoint of a run, with some of its validation clips in its training list instead."""
    tensors, metadata = read_tensors(find_checkpoint(run))
    spec = read_spec(run, metadata)
    changed = spec.model_copy(
        update={
            "train_clips": (*spec.train_clips, *names),
            "validation_clips": tuple(n for n in spec.validation_clips if n not in names),
        }
    )
    write_tensors(out, tensors, metadata | {METADATA_KEY: changed.to_json()})
    return out


@pytest.mark.slow
def test_validation_clips_are_those_that_all_networks_held_out(
    data: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    spec = load_checkpoint(find_checkpoint(runs["temporal"]))[1]
    held = {n for n in spec.validation_clips if n.partition("/")[0] in tiny.CLASSES}
    assert len(held) == 2
    words = ["evaluate", data, "--part", "validation", "--samples", 1, "--cache", data / "cache"]
    words += ["--network", f"spatial={runs['spatial']}", "--network"]
    done = twostream(*words, f"temporal={runs['temporal']}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("validation, split 1: 2 clips")
    (one, other) = sorted(held)
    some = trained_also_on(runs["temporal"], {one}, tmp_path / "some.safetensors")
    done = twostream(*words, f"temporal={some}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("validation, split 1: 1 clips")
    said = " ".join(done.stderr.split())
    assert f"1 clips that all networks held out; 1 that only some held out, such as {one}" in said
    none = trained_also_on(runs["temporal"], held, tmp_path / "none.safetensors")
    refused = twostream(*words, f"temporal={none}")
    assert refused.returncode == 2
    fault = refused.stderr.splitlines()[-1]
    for words_of_it in ("has no clip that was held out", "same --classes", "--part test"):
        assert words_of_it in fault
    # the other network's training clip under the name of one that was held out
    path = data / "UCF-101"
    trained = path / next(n for n in spec.train_clips if n.startswith(other.partition("/")[0]))
    kept = (path / other).read_bytes()
    try:
        (path / other).write_bytes(trained.read_bytes())
        done = twostream(*words, f"temporal={runs['temporal']}")
    finally:
        (path / other).write_bytes(kept)
    assert done.stdout.startswith("validation, split 1: 1 clips"), done.stderr


@pytest.mark.slow
def test_invalid_options_are_one_line_errors(data: Path, runs: dict[str, Path]) -> None:
    spatial = ("--network", f"spatial={runs['spatial']}")
    assert_refused(twostream("evaluate", data, *spatial, "--crops", 5), "--crops 5: give 1 or 10")
    assert_refused(twostream("evaluate", data, *spatial, "--for-fusion"), "--scores FILE.npz")
    for network, said in (
        (f"temporal={runs['spatial']}", "not a temporal one"),
        (str(runs["spatial"]), "give NAME=CHECKPOINT"),
        (f"Tempo ral={runs['spatial']}", "should match pattern"),
        (f"fused={runs['spatial']}", "the name is taken"),
    ):
        assert_refused(twostream("evaluate", data, "--network", network), said)
    assert_refused(twostream("fuse", data / "none.npz"), "none.npz", "No such file")


@pytest.mark.slow
def test_a_cluster_gives_the_scores_of_this_process(data: Path, runs: dict[str, Path]) -> None:
    from train.data.ray_map import map_on_cluster
    from train.evaluation.protocol import Protocol, score_clip

    file = find_checkpoint(runs["temporal"])
    spec = load_checkpoint(file)[1]
    clips = [clip for clip in load_split(data, 1).test if clip.label in spec.classes]
    cached = fill_cache(open_cache(data / "cache", spec), clips, 10)
    work = partial(score_clip, checkpoint=file, protocol=Protocol(2, 1, 10))
    remote = {clip.clip.name: scores for clip, scores in map_on_cluster(work, cached, "local")}
    assert sorted(remote) == sorted(clip.name for clip in clips) != []
    for clip in cached:
        local = work(clip)
        np.testing.assert_allclose(remote[clip.clip.name].scores, local.scores, atol=1e-5)
