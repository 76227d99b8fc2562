"""Recipes: every file is sound; parts that do not fit and keys that do not exist are refused with the reason."""

from __future__ import annotations

import pytest

from etude.config import CONFIG_ROOT, ConfigError, RecipeConfig, TaskConfig, build, load_run_config, read_yaml

RECIPES = sorted((CONFIG_ROOT / "recipes").glob("*.yaml"))
STATE = {"task": "slide", "robot": "sim_panda_fast", "recipe": "rlpd", "observation": "state"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_sound_named_like_its_file_and_explains_itself(path) -> None:
    recipe = build(RecipeConfig, read_yaml(path), str(path))
    assert recipe.name == path.stem
    assert recipe.summary.endswith(".") and recipe.paper


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"policy": {"kind": "diffusion"}}, "log density"),
        ({"critic": {"kind": "none"}}, "asks a critic"),
        ({"critic": {"kind": "cal_ql"}, "policy": {"kind": "flow"}, "improvement": {"kind": "awr"}}, "importance_sampling"),
        ({"critic": {"kind": "cal_ql"}, "improvement": {"kind": "pa_rl"}}, "importance_sampling"),
        ({"critic": {"backup_entropy": True}, "improvement": {"kind": "awr"}}, "backup_entropy"),
        ({"critic": {"acting": "target"}}, "critic.acting"),
        ({"critic": {"ensemble": 2, "subset_min": 3}}, "subset_min"),
        ({"improvement": {"kind": "pa_rl", "candidates": 4, "keep": 8}}, "keep"),
        ({"critic": {"head": "hl_gauss", "value_min": 1.0, "value_max": 0.0}}, "value_min"),
        ({"policy": {"log_std_min": 1.0, "log_std_max": 0.0}}, "log_std_min 1 is above"),
        (
            {"policy": {"kind": "autoregressive", "width": 30, "heads": 4}, "improvement": {"kind": "bc"}},
            "width 30 does not divide into policy.heads 4",
        ),
        ({"improvement": {"bc_schedule": "annealed", "bc_weight": 4.0}}, "at most 1"),
        ({"improvement": {"bc_schedule": "annealed", "bc_anneal_start": 9, "bc_anneal_end": 8}}, "bc_anneal_end 8 is before"),
        (
            {"critic": {"head": "hl_gauss", "value_min": -100, "value_max": 1}, "data": {"rnd_coefficient": 0.5}},
            "a bonus without a bound",
        ),
        ({"critic": {"kind": "cal_ql"}, "reward": {"kind": "intervention"}}, "after the returns"),
        ({"critic": {"ensembel": 3}}, "Did you mean 'ensemble'"),
        ({"policy": {"kind": "gausian"}}, "policy.kind"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(axes: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        build(RecipeConfig, {"name": "wrong", **axes}, "wrong.yaml")


def test_without_images_the_truth_replaces_the_classifier_and_nothing_else() -> None:
    with pytest.raises(ConfigError, match="no images"):
        load_run_config(STATE)
    assert load_run_config(STATE, truth_without_images=True).recipe.reward.kind == "environment"
    rlif = load_run_config({**STATE, "recipe": "rlif"}, truth_without_images=True)
    assert rlif.recipe.reward.kind == "intervention"
    with pytest.raises(ConfigError, match="no images"):
        load_run_config(STATE, ["recipe.reward.kind=classifier"], truth_without_images=True)


@pytest.mark.parametrize(
    "box",
    [
        {"tool_start_min_m": [0.4, -0.2, 0.1]},
        {"tool_start_max_m": [0.4, -0.2, 0.1]},
        {"tool_start_min_m": [0.4, 0.2, 0.1], "tool_start_max_m": [0.5, -0.2, 0.2]},
    ],
)
def test_a_start_box_needs_two_corners_in_order(box: dict) -> None:
    task = {"name": "t", "forward": {"instruction": "there"}, "backward": {"instruction": "back"}}
    with pytest.raises(ConfigError, match=r"tool_start_min_m is .* tool_start_max_m .*both corners"):
        build(TaskConfig, {**task, **box}, "task.yaml")
