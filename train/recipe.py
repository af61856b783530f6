"""A recipe: every number of a training run, in one TOML file that can be read like a paper's table.

    title, source                      what it is and where its values come from
    [network] [sampling] [augmentation] [optimiser] [schedule] [loss] [validation]
    [spatial.*] [temporal.*]           what one stream does otherwise

No value has a default: a recipe is read whole or refused. The recipes that come with the package
lie in train/recipes/ and are known by name; `default` made the demo bundle.
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

    weights: "imagenet", "package", "hub", "none", or a file (see train/models/weights.py).
    size_px: side of the square input; 0 takes what the backbone's own configuration says.
    freeze: the stem and this many stages stay as they are; 0 trains everything.
    batch_norm: "all" layers learn from the batch; "partial" only the first does (Wang et al.,
        2016), which is what keeps a network with few clips from learning them by heart; "frozen"
        none does.
    quantise: go on from `weights`, a checkpoint of the same classes, with the rounding of INT8 (see
        train/models/qat.py).
    """

    backbone: str
    weights: str
    size_px: int = Field(ge=0, le=1024)
    dropout: float = Field(ge=0, lt=1)
    freeze: int = Field(ge=0)
    batch_norm: Literal["all", "partial", "frozen"]
    quantise: bool


class SamplingRecipe(Spec):
    """Which moments of a clip are seen.

    segments: moments a sample; their logits are averaged before the loss (the consensus of
        temporal segment networks, Wang et al., 2016). 1 is the classic single snippet.
    stack: flows a stack: Simonyan and Zisserman's L. Moments begin where the first stack ends, for
        every stream, so that all of them look at the same ones.
    repeats: samples that each clip gives an epoch. With one segment the repeats share the clip
        out among them.
    balance: a class with few clips gives up to this many times as many samples of each.
    others: samples of a clip of no class in the list, as a share of `repeats`. They are trained
        towards equal scores (outlier exposure, Hendrycks et al., 2019).
    """

    segments: int = Field(ge=1, le=25)
    stack: int = Field(ge=1, le=64)
    repeats: int = Field(ge=1)
    balance: float = Field(ge=1)
    others: float = Field(ge=0, le=1)


class AugmentationRecipe(Spec):
    """Pictures and flows are cut, mirrored and shifted before they become tensors.

    name: what the checkpoint's folder begins with.
    scales: of the crop's sides, drawn apart but at most one step from each other (scale jitter,
        Wang et al., 2015).
    place: "corners" is one of the four corners or the centre, "random" anywhere.
    flip: mirrored in half of the cases; u changes its sign.
    colour: how far brightness, contrast and saturation are shifted; 0 leaves them, 1 is strong.
    size_px: side of the pictures trained on; 0 is the network's own. Half the side is a quarter
        of the work, and a crop shown smaller looks as large as the whole shown at full size.
    full_size_epochs: the last epochs, which are trained at the network's own size all the same
        (Touvron et al., "Fixing the train-test resolution discrepancy", 2019).
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
            raise ValueError("scales are shares of the picture's side, from 0.1 to 1")
        return self


class OptimiserRecipe(Spec):
    """rate: peak learning rate of the backbone; the new classifier has `head_factor` times it.

    batch: samples a step, over all processes together.
    clip_norm: longest gradient, 0 for any.
    average: decay a step of the running mean of the weights, which is the network that is
        validated and kept; 0 keeps the last weights themselves.
    precision: "mixed" computes the network in bfloat16, or float16 on GPUs without it, and in
        float32 on CPUs that have no instructions for it; "full" in float32 everywhere.
    """

    kind: Literal["adamw", "adam", "sgd"]
    rate: float = Field(gt=0)
    head_factor: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    momentum: float = Field(ge=0, lt=1)
    batch: int = Field(ge=1)
    clip_norm: float = Field(ge=0)
    average: float = Field(ge=0, lt=1)
    precision: Literal["mixed", "full"]


class ScheduleRecipe(Spec):
    """The rate over time: from nothing to its peak in `warmup_epochs`, then down.

    kind: "cosine" down to nothing; "step" times `factor` at each of the epochs in `steps`.
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
    """smoothing: of the labels. class_weights: "balanced" weighs classes by one over their size.

    mixup: samples are mixed in pairs with a share drawn from Beta(mixup, mixup) (Zhang et al.,
        2018); 0 leaves them apart.
    """

    smoothing: float = Field(ge=0, lt=1)
    class_weights: Literal["none", "balanced"]
    mixup: float = Field(ge=0)


class ValidationRecipe(Spec):
    """fraction: of each class's groups that is held out of the training list.

    samples: moments of each held-out clip.
    choose_by: what the best epoch is best in. With few clips the mean log-likelihood is a steadier
        guide than top-1, and it asks for scores that can be believed. "last" takes the last epoch.
    patience: epochs without a better one after which training stops; 0 never stops early.
    """

    fraction: float = Field(ge=0, lt=1)
    samples: int = Field(ge=1)
    choose_by: Literal["log_likelihood", "top1", "last"]
    patience: int = Field(ge=0)


class Recipe(Spec):
    """One stream's whole recipe, with the seed of all that is drawn."""

    title: str
    source: str
    seed: int = Field(ge=0)
    network: NetworkRecipe
    sampling: SamplingRecipe
    augmentation: AugmentationRecipe
    optimiser: OptimiserRecipe
    schedule: ScheduleRecipe
    loss: LossRecipe
    validation: ValidationRecipe

    def to_json(self) -> str:
        return self.model_dump_json()


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(
        f.name.removesuffix(".toml") for f in _PACKAGED.iterdir() if f.name[-5:] == ".toml"
    )


def load_recipe(name: str, stream: str, changes: tuple[str, ...] = ()) -> Recipe:
    """The recipe of that name, or in that TOML file, for one stream.

    changes: "section.key=value", the value in TOML's terms (a word needs no quotes); they win.
    Raises DataError with the file, the key and what was expected.
    """
    tables = _read(name)
    own = {stream: tables.pop(stream, {}) for stream in STREAMS}
    _merge(tables, own[stream], f"{name}: [{stream}]")
    for change in changes:
        _merge(tables, _change(change), change)
    return _validated(tables, name)


def parse_recipe(text: str) -> Recipe:
    """The recipe in a checkpoint. Raises ValueError where it is none."""
    raw: Any = parse_json(text)
    if isinstance(raw, dict) and isinstance(raw.get("sampling"), dict):
        raw["sampling"].setdefault("stack", 10)  # as it was before recipes said it
    return Recipe.model_validate(raw)


def quantisation_aware(trained: Recipe, checkpoint: Path, changes: tuple[str, ...]) -> Recipe:
    """A short fine-tuning of a checkpoint by the recipe that made it: a tenth of its rate, a few
    epochs at the network's own size. Raises DataError as `load_recipe` does.
    """
    tables = trained.model_dump(mode="json")
    fine = {
        "network": {"weights": str(checkpoint), "quantise": True},
        "augmentation": {"size_px": 0, "full_size_epochs": 0},
        "optimiser": {"rate": trained.optimiser.rate / 10, "head_factor": 1.0},
        "schedule": {"kind": "cosine", "epochs": 3, "warmup_epochs": 0.5, "steps": []},
    }
    for more in (fine, *map(_change, changes)):
        _merge(tables, more, "--qat")
    return _validated(tables, "--qat")


def _validated(tables: dict[str, Any], name: str) -> Recipe:
    try:
        return Recipe.model_validate(tables)
    except ValidationError as error:
        raise DataError(f"recipe {name}: {first_fault(error, 'recipe')}") from None


def _read(name: str) -> dict[str, Any]:
    packaged = name in recipe_names()
    if not packaged and not name.endswith(".toml"):
        raise DataError(
            f"recipe {name!r} does not exist; there are {', '.join(recipe_names())}, "
            "or give a .toml file"
        )
    try:
        text = (_PACKAGED / f"{name}.toml").read_text() if packaged else Path(name).read_text()
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
