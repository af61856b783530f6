"""Recipes: read completely or refused by name; every built-in recipe is valid."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DataError
from tests.support.command import assert_refused, twostream
from tests.support.paths import REPOSITORY
from train.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from train.streams import STREAMS

DEFAULT = REPOSITORY / "train" / "recipes" / "default.toml"


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", recipe_names())
def test_built_in_recipes_are_valid_and_name_their_source(name: str, stream: str) -> None:
    recipe = load_recipe(name, stream)
    assert len(recipe.source) > 20
    assert Recipe.model_validate_json(recipe.to_json()) == recipe


def test_every_published_method_has_a_built_in_recipe() -> None:
    published = {"seed-xception", "resnet101", "very-deep", "tsn", "tsm", "resnet3d"}
    assert published | {"default"} <= set(recipe_names())


def test_a_stream_section_overrides_the_common_values() -> None:
    tsn = {stream: load_recipe("tsn", stream) for stream in STREAMS}
    assert tsn["spatial"].optimiser.rate == 0.001  # Wang et al., 2016, section 4.1
    assert tsn["temporal"].optimiser.rate == 0.005
    assert tsn["spatial"].sampling.segments == tsn["temporal"].sampling.segments == 3
    assert tsn["spatial"].network.batch_norm == "partial"


def test_set_overrides_the_recipe_and_words_need_no_quotes() -> None:
    recipe = load_recipe("default", "spatial", ("network.backbone=resnet18", "seed=7"))
    assert recipe.network.backbone == "resnet18"
    assert recipe.seed == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("schedule.epochs", "give SECTION.KEY=VALUE"),
        ("schedule.epochs=many", "schedule.epochs: Input should be a valid integer"),
        ("schedule.epochs=0", "schedule.epochs"),
        (
            "schedule.epoch=3",
            "schedule.epoch: does not exist; there are kind, epochs, warmup_epochs",
        ),
        ("seed.x=2", "seed is a value"),
        ("augmentation.scales=[2.0]", "shares of the frame's side"),
        ("schedule.warmup_epochs=99.0", "warmup_epochs must be fewer"),
        ("network.shift=0.125", "network.shift needs sampling.frames of 2 or more"),
    ],
)
def test_invalid_overrides_are_refused_by_name(change: str, says: str) -> None:
    with pytest.raises(DataError, match=says.replace(".", r"\.")):
        load_recipe("default", "temporal", (change,))


def test_a_missing_key_is_refused_by_name(tmp_path: Path) -> None:
    lines = DEFAULT.read_text().splitlines(keepends=True)
    common = lines[: lines.index("[spatial.network]\n")]
    for index in (i for i, line in enumerate(common) if " = " in line):
        file = tmp_path / f"{index}.toml"
        file.write_text("".join(lines[:index] + lines[index + 1 :]))
        key = lines[index].split(" = ")[0]
        with pytest.raises(DataError, match=rf"{file}: .*{key}: Field required"):
            load_recipe(str(file), "temporal")


@given(st.text(max_size=60))
def test_any_override_is_accepted_or_refused(text: str) -> None:
    with suppress(DataError):  # any other error is a fault
        assert load_recipe("default", "spatial", (text,)).title


@pytest.mark.slow
def test_an_unreadable_recipe_is_a_one_line_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"\xff\xfe = [")
    for name, says in (
        ("inception", "built-in recipes: default"),
        (str(bad), "not TOML"),
        ("none.toml", "No such file"),
    ):
        done = twostream("train", "spatial", tmp_path, "--recipe", name)
        assert_refused(done, name, says)


def test_recipes_in_older_checkpoints_are_read() -> None:
    """They have no `sampling.stack`, which was always 10, and call negatives `others`."""
    recipe = load_recipe("default", "temporal", ("sampling.negatives=0.25",))
    tables = json.loads(recipe.to_json())
    assert tables["sampling"].pop("stack") == 10
    tables["sampling"]["others"] = tables["sampling"].pop("negatives")
    assert parse_recipe(json.dumps(tables)) == recipe == parse_recipe(recipe.to_json())


@pytest.mark.parametrize("sampling", [[], 3, {"others": 0.5, "negatives": 0.5}])
def test_a_damaged_recipe_in_a_checkpoint_is_refused(sampling: object) -> None:
    tables = json.loads(load_recipe("default", "temporal").to_json())
    if isinstance(sampling, dict):
        sampling = tables["sampling"] | sampling
    with pytest.raises(ValueError, match="sampling"):
        parse_recipe(json.dumps(tables | {"sampling": sampling}))
