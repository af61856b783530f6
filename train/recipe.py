"""A recipe: all hyperparameters of a training run in one TOML file.

    title, source                      name of the recipe and origin of its values
    [network] [sampling] [augmentation] [optimiser] [schedule] [loss] [teacher] [motion]
    [validation]
    [spatial.*] [temporal.*]           values that differ for one stream

No value has a default: missing and unknown keys are errors. The built-in recipes are in
train/recipes/ and used by name; the demo bundle was trained with `default`.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from edge.errors import DataError
from edge.spec import Spec, first_fault, parse_json
from train.streams import STREAMS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGED = files("train") / "recipes"


class NetworkRecipe(Spec):
    """The backbone and how much of it is trained.

    backbone: a timm model name.
    weights: the initial weights: "imagenet", "package", "hub", "none", or a file (see
        train/models/weights.py).
    size_px: side of the square input; 0 takes the backbone's default size.
    dropout: probability, before the classifier.
    freeze: freeze the stem and this many stages; 0 trains everything.
    batch_norm: the batch norms that are trained: "all", "partial" (the first alone; Wang et al.,
        2016), which reduces overfitting on few clips, or "frozen" (none).
    flow_kernel: the first layer for flow, made from that for colours: "mean" takes their mean for
        each component (Wang et al., 2015); "colours" sees u as red, v as blue and their change as
        green, and so tells directions apart before it is trained.
    quantise: quantisation-aware fine-tuning of `weights`, which is then a checkpoint of the same
        classes (see train/models/qat.py).
    shift: share of the channels that each residual block of the spatial network takes from the
        step before, 1/8 in the paper (Lin et al., 2019; see train/models/online.py); 0 is none.
    """

    backbone: str
    weights: str
    size_px: int = Field(ge=0, le=1024)
    dropout: float = Field(ge=0, lt=1)
    freeze: int = Field(ge=0)
    batch_norm: Literal["all", "partial", "frozen"]
    flow_kernel: Literal["mean", "colours"]
    quantise: bool
    shift: float = Field(ge=0, le=0.5)


class SamplingRecipe(Spec):
    """How snippets are sampled from clips.

    segments: snippets per sample; their logits are averaged before the loss (the consensus of
        temporal segment networks, Wang et al., 2016). 1 is a single snippet.
    stack: flows per stack, Simonyan and Zisserman's L. In both streams the first frame that can be
        sampled is frame `stack` (from 0), so that they see the same snippets.
    repeats: samples of each clip per epoch. With one segment, each repeat is drawn from a part of
        the clip of its own.
    balance: the largest factor by which clips of small classes are sampled more often.
    negatives: samples per epoch of a clip that shows none of the classes, as a multiple of
        `repeats`, 0 to 10.
        Their target is equal scores for all classes (outlier exposure, Hendrycks et al., 2019).
    frames: how many frames a network over time sees at once; 1 for a network of one picture or
        stack. stride: between them, in frames of the training interval; the manifest has it in
        seconds.
    """

    segments: int = Field(ge=1, le=25)
    stack: int = Field(ge=1, le=64)
    repeats: int = Field(ge=1)
    balance: float = Field(ge=1)
    negatives: float = Field(ge=0, le=10)
    frames: int = Field(ge=1, le=64)
    stride: int = Field(ge=1, le=25)


class AugmentationRecipe(Spec):
    """Cropping, mirroring and colour changes of frames and flow.

    name: the first part of the run folder's name.
    scales: sides of the crop as shares of the frame's sides, 0.1 to 1. Height and width are drawn
        separately, at most one step of this list apart (scale jitter, Wang et al., 2015).
    place: position of the crop: "corners" (one of the four corners, or the centre) or "random".
    flip: mirror half of the samples; the horizontal flow u then changes its sign.
    colour: strength of changes of brightness, contrast and saturation: 0 none, 1 strong.
    size_px: side of the training inputs; 0 is the network's input size. Half the side is a quarter
        of the work. Crops are smaller than the frame, so objects keep about the size in px that
        they have in whole frames at the full size.
    full_size_epochs: how many of the last epochs are trained at the network's input size (Touvron
        et al., "Fixing the train-test resolution discrepancy", 2019).
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    scales: tuple[float, ...] = Field(strict=False, min_length=1)
    place: Literal["corners", "random"]
    flip: bool
    colour: float = Field(ge=0, le=1)
    size_px: int = Field(ge=0, le=1024, multiple_of=2)
    full_size_epochs: int = Field(ge=0)

    @model_validator(mode="after")
    def _scales_are_shares(self) -> AugmentationRecipe:
        if not all(0.1 <= scale <= 1 for scale in self.scales):
            raise ValueError("scales must be shares of the frame's side, from 0.1 to 1")
        return self


class OptimiserRecipe(Spec):
    """The optimiser and its hyperparameters, without the schedule.

    kind: "lbfgs" trains the classifier alone, on features of the frozen backbone, computed once for
        the samples of one epoch. This is convex: it takes seconds and needs no schedule. Of the
        values below it uses weight_decay alone, of features with a mean square norm of 1.
    rate: peak learning rate of the backbone; the new classifier's is `head_factor` times it.
    weight_decay: of all trained weights.
    momentum: of SGD; beta1 of Adam and AdamW.
    batch: samples per step, over all processes.
    clip_norm: maximum norm of the gradient; 0 is no limit.
    average: decay per step of the exponential moving average of the weights, which is what is
        validated and saved; 0 validates and saves the weights themselves.
    precision: "mixed" computes in bfloat16; in float16 on GPUs without bfloat16, in float32 on CPUs
        without instructions for it. "full" computes in float32.
    """

    kind: Literal["adamw", "adam", "sgd", "lbfgs"]
    rate: float = Field(gt=0)
    head_factor: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    momentum: float = Field(ge=0, lt=1)
    batch: int = Field(ge=1)
    clip_norm: float = Field(ge=0)
    average: float = Field(ge=0, lt=1)
    precision: Literal["mixed", "full"]


class ScheduleRecipe(Spec):
    """The learning rate over time: linear warm-up over `warmup_epochs`, then decay.

    kind: "cosine" decays to 0; "step" multiplies by `factor` at each of the epochs in `steps`.
    """

    kind: Literal["cosine", "step"]
    epochs: int = Field(ge=1)
    warmup_epochs: float = Field(ge=0)
    steps: tuple[int, ...] = Field(strict=False)
    factor: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _warm_up_ends(self) -> ScheduleRecipe:
        if self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs must be fewer than epochs")
        return self


class LossRecipe(Spec):
    """Cross-entropy and its regularisation.

    smoothing: label smoothing (Szegedy et al., 2016).
    class_weights: "balanced" weights each class by the inverse of its number of samples.
    mixup: pairs of samples are mixed with a share drawn from Beta(mixup, mixup) (Zhang et al.,
        2018); 0 is no mixing.
    """

    smoothing: float = Field(ge=0, lt=1)
    class_weights: Literal["none", "balanced"]
    mixup: float = Field(ge=0)


class TeacherRecipe(Spec):
    """A trained network whose scores are targets beside the labels: knowledge distillation (Hinton
    et al., 2015), with which Zhang et al., 2016, teach a network of motion vectors by one of
    optical flow.

    checkpoint: a checkpoint for the same classes, or the folder of its run; "" is none. It sees
        the same snippets, with the motion that it was trained on.
    temperature: logits of both are divided by it before the softmax; above 1 the teacher's scores
        are softer and tell more of the classes that it takes for similar.
    weight: of the teacher's scores in the loss, 0 to 1; the labels have the rest.
    """

    checkpoint: str
    temperature: float = Field(gt=0, le=100)
    weight: float = Field(ge=0, le=1)


class LearnedMotionRecipe(Spec):
    """A network of motion before the backbone, trained with it (see train/models/hidden.py).

    checkpoint: its file, as `--motion network=FILE` gives it; "" is none.
    rate_factor: its learning rate is so many times that of the backbone: it is trained already.
    """

    checkpoint: str
    rate_factor: float = Field(ge=0, le=10)


class ValidationRecipe(Spec):
    """Validation after each epoch, and how the best epoch is chosen.

    fraction: share of each class's groups that is held out of the training list.
    samples: evenly spaced snippets of each validation clip.
    choose_by: the metric of the best epoch. With few clips the mean log-likelihood is less noisy
        than top-1, and it favours calibrated scores. "last" takes the last epoch.
    patience: stop after this many epochs without a better one; 0 never stops early.
    """

    fraction: float = Field(ge=0, lt=1)
    samples: int = Field(ge=1)
    choose_by: Literal["log_likelihood", "top1", "last"]
    patience: int = Field(ge=0)


class Recipe(Spec):
    """All hyperparameters of one stream. seed: of everything that is drawn at random."""

    title: str
    source: str
    seed: int = Field(ge=0)
    network: NetworkRecipe
    sampling: SamplingRecipe
    augmentation: AugmentationRecipe
    optimiser: OptimiserRecipe
    schedule: ScheduleRecipe
    loss: LossRecipe
    teacher: TeacherRecipe
    motion: LearnedMotionRecipe
    validation: ValidationRecipe

    @model_validator(mode="after")
    def _a_classifier_alone(self) -> Recipe:
        if self.optimiser.kind == "lbfgs" and (self.network.quantise or self.loss.mixup):
            raise ValueError("optimiser.kind lbfgs allows neither network.quantise nor loss.mixup")
        if self.optimiser.kind == "lbfgs" and self.teacher.checkpoint:
            raise ValueError("optimiser.kind lbfgs allows no teacher.checkpoint")
        return self

    @model_validator(mode="after")
    def _over_time(self) -> Recipe:
        if self.network.shift and self.sampling.frames == 1:
            raise ValueError("network.shift needs sampling.frames of 2 or more, 8 are usual")
        if self.sampling.frames > 1 and self.sampling.segments > 1:
            raise ValueError("sampling.frames above 1 allows one segment alone")
        return self

    def to_json(self) -> str:
        """The recipe as JSON, which `parse_recipe` reads."""
        return self.model_dump_json()


def recipe_names() -> list[str]:
    """The names of the built-in recipes."""
    return sorted(
        f.name.removesuffix(".toml") for f in _PACKAGED.iterdir() if f.name[-5:] == ".toml"
    )


def load_recipe(name: str, stream: str, changes: tuple[str, ...] = ()) -> Recipe:
    """The recipe of one stream.

    name: of a built-in recipe, or the path of a .toml file. changes: "section.key=value" with the
    value in TOML; a single word needs no quotes. Raises DataError, with the key and the expected
    value, if the file cannot be read or is not valid.
    """
    tables = _read(name)
    by_stream = {stream: tables.pop(stream, {}) for stream in STREAMS}
    _merge(tables, by_stream[stream], f"{name}: [{stream}]")
    for change in changes:
        _merge(tables, _change(change), change)
    return _validated(tables, name)


def parse_recipe(text: str) -> Recipe:
    """The recipe in a checkpoint, as JSON. Earlier versions had no `sampling.stack` (it was 10)
    and no `network.flow_kernel` (it was "mean"), no `teacher`, no `motion`, no networks over time,
    and called
    `sampling.negatives` `others`. Raises ValueError if it is invalid.
    """
    recipe: Any = parse_json(text)
    sections = recipe if isinstance(recipe, dict) else {}
    if isinstance(sections.get("network"), dict):
        sections["network"].setdefault("flow_kernel", "mean")
        sections["network"].setdefault("shift", 0.0)
    sections.setdefault("teacher", {"checkpoint": "", "temperature": 1.0, "weight": 0.0})
    sections.setdefault("motion", {"checkpoint": "", "rate_factor": 0.1})
    sampling = sections.get("sampling")
    if isinstance(sampling, dict):
        sampling.setdefault("stack", 10)
        sampling.setdefault("frames", 1)
        sampling.setdefault("stride", 1)
        if "others" in sampling and "negatives" not in sampling:
            sampling["negatives"] = sampling.pop("others")
    return Recipe.model_validate(recipe)


def quantisation_aware(trained: Recipe, checkpoint: Path, changes: tuple[str, ...]) -> Recipe:
    """The recipe of a short quantisation-aware fine-tuning of a checkpoint: that of the checkpoint,
    with a tenth of its learning rate and three epochs at the network's input size.

    changes: as in `load_recipe`. Raises DataError as `load_recipe` does.
    """
    tables = trained.model_dump(mode="json")
    fine_tuning = {
        "network": {"weights": str(checkpoint), "quantise": True},
        "teacher": {"checkpoint": ""},
        "augmentation": {"size_px": 0, "full_size_epochs": 0},
        "optimiser": {"rate": trained.optimiser.rate / 10, "head_factor": 1.0},
        "schedule": {"kind": "cosine", "epochs": 3, "warmup_epochs": 0.5, "steps": []},
    }
    for overrides in (fine_tuning, *map(_change, changes)):
        _merge(tables, overrides, "--qat")
    return _validated(tables, "--qat")


def _validated(tables: dict[str, Any], name: str) -> Recipe:
    try:
        return Recipe.model_validate(tables)
    except ValidationError as error:
        raise DataError(
            f"recipe {name}: {first_fault(error, 'recipe')}{_keys_beside(error)}"
        ) from None


def _keys_beside(error: ValidationError) -> str:
    """Which keys exist where the first fault is one that does not."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return ""
    model: Any = Recipe
    for part in first["loc"][:-1]:
        model = model.model_fields[part].annotation
    return f"; there are {', '.join(model.model_fields)}"


def _read(name: str) -> dict[str, Any]:
    packaged = name in recipe_names()
    if not packaged and not name.endswith(".toml"):
        raise DataError(
            f"recipe {name!r} does not exist; built-in recipes: {', '.join(recipe_names())}; "
            "or give a .toml file"
        )
    try:
        text = (
            (_PACKAGED / f"{name}.toml").read_text(encoding="utf-8")
            if packaged
            else Path(name).read_text(encoding="utf-8")
        )
        return tomllib.loads(text)
    except OSError as error:
        raise DataError(f"recipe {name}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"recipe {name}: not TOML ({error})") from None


def _change(text: str) -> dict[str, Any]:
    """{"section": {"key": value}} of "section.key=value"."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise DataError(f"--set {text}: give SECTION.KEY=VALUE, such as schedule.epochs=20")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for key in reversed(keys):
        parsed = {key: parsed}
    return parsed  # type: ignore[no-any-return]


def _merge(into: dict[str, Any], changes: dict[str, Any], where: str) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            inner = into.setdefault(key, {})
            if not isinstance(inner, dict):
                raise DataError(f"{where}: {key} is a value, not a section")
            _merge(inner, value, where)
        else:
            into[key] = value
