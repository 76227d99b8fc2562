"""The task graph: practice goes on for ever in what is accepted, and what is refused is named by file and key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor import task_graph as tg
from etude.config import CONFIG_ROOT, ConfigError, TaskConfig, build, read_yaml
from etude.status import SuccessRate


def task(name, needs=(), undoes=(), leads_to=()):
    return tg.Task(name, frozenset(needs), frozenset(undoes), frozenset(leads_to), f"tasks/{name}.yaml: forward")


def graph(*tasks, start):
    return tg.TaskGraph({one.name: one for one in tasks}, frozenset(start))


OPEN = task("open", ["closed"], ["closed"], ["open"])
CLOSE = task("close", ["open"], ["open"], ["closed"])
PUT_IN = task("put_in", ["open", "block_out"], ["block_out"], ["block_in"])
TAKE_OUT = task("take_out", ["open", "block_in"], ["block_in"], ["block_out"])
DRAWER = graph(OPEN, CLOSE, PUT_IN, TAKE_OUT, start=["closed", "block_out"])


def rate(successes, attempts):
    return SuccessRate(successes, attempts, attempts)


# --- configurations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted((CONFIG_ROOT / "tasks").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_task_file_is_a_graph_of_its_own_in_which_two_directions_alternate(file):
    config = build(TaskConfig, read_yaml(file), file.name)
    pair = tg.from_tasks({file.name: config})
    forward, backward = f"{config.name}/forward", f"{config.name}/backward"
    scene = pair.start
    for _ in range(2):
        assert pair.possible(scene) == [forward]
        scene = pair.tasks[forward].after(scene)
        assert pair.possible(scene) == [backward]
        scene = pair.tasks[backward].after(scene)
    assert scene == pair.start


def pair_file(name, **conditions):
    forward = {"instruction": "go", "needs": ["out", "drawer_open"], "undoes": ["out"], "leads_to": ["in"]}
    backward = {"instruction": "back", "needs": ["in"], "undoes": ["in"], "leads_to": ["out"]}
    forward |= {key.removeprefix("forward_"): value for key, value in conditions.items() if key.startswith("forward_")}
    backward |= {key.removeprefix("backward_"): value for key, value in conditions.items() if key.startswith("backward_")}
    return build(TaskConfig, {"name": name, "forward": forward, "backward": backward}, name)


def test_two_files_are_joined_by_their_conditions():
    drawer = build(TaskConfig, read_yaml(CONFIG_ROOT / "tasks/drawer.yaml"), "drawer")
    joined = tg.from_tasks({"drawer.yaml": drawer, "store.yaml": pair_file("store")})
    assert joined.possible(joined.start) == ["drawer/forward", "store/forward"]
    assert joined.possible(frozenset({"drawer_closed", "out"})) == ["drawer/backward"]


def test_an_unknown_condition_is_named_with_file_key_and_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"store.yaml: backward.undoes: .*'inn'.*Did you mean 'in'\?"):
        tg.from_tasks({"store.yaml": pair_file("store", backward_undoes=["inn"])})


def test_a_condition_without_a_way_out_is_a_dead_end():
    with pytest.raises(ConfigError, match=r"store.yaml: forward.leads_to: no task undoes 'gone'"):
        tg.from_tasks({"store.yaml": pair_file("store", forward_leads_to=["in", "gone"])})


def test_a_scene_from_which_a_task_is_never_possible_again_is_refused():
    # backward does not bring the block out again
    with pytest.raises(ConfigError, match=r"store.yaml: forward.needs: drawer_open, out cannot be reached"):
        tg.from_tasks({"store.yaml": pair_file("store", backward_leads_to=[])})


def test_two_tasks_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"b.yaml: name: 'store'"):
        tg.from_tasks({"a.yaml": pair_file("store"), "b.yaml": pair_file("store")})


# --- choosing -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(0, 20))
def test_the_weight_is_the_largest_learnability_within_the_wilson_interval(successes, failures):
    one = rate(successes, successes + failures)
    low, high = one.wilson()
    p = np.linspace(low, high, 2001)
    assert tg.learnability(one) == pytest.approx((p * (1 - p)).max(), abs=1e-6)


def test_what_was_hardly_tried_counts_as_learnable_and_what_is_certain_does_not():
    assert tg.learnability(SuccessRate()) == 0.25
    assert tg.learnability(rate(0, 1)) == 0.25, "one failure says little"
    assert tg.learnability(rate(200, 200)) < tg.LEARNABLE
    assert tg.learnability(rate(0, 200)) < tg.LEARNABLE
    assert tg.learnability(rate(100, 200)) == pytest.approx(0.25)


def test_choices_follow_the_weights_and_are_the_same_for_the_same_seed():
    rates = {"close": rate(190, 200), "put_in": rate(100, 200)}
    scene = frozenset({"open", "block_out"})

    def choices(seed):
        rng = np.random.default_rng(seed)
        return [tg.choose(DRAWER, scene, rates, rng, epsilon=0.0) for _ in range(4000)]

    assert choices(0) == choices(0)
    wanted = tg.learnability(rates["put_in"]) / (tg.learnability(rates["put_in"]) + tg.learnability(rates["close"]))
    assert choices(1).count("put_in") / 4000 == pytest.approx(wanted, abs=0.03)


def test_epsilon_tries_every_possible_task_now_and_then():
    rates = {"close": rate(0, 1000), "put_in": rate(500, 1000)}
    rng = np.random.default_rng(0)
    chosen = [tg.choose(DRAWER, frozenset({"open", "block_out"}), rates, rng) for _ in range(4000)]
    assert chosen.count("close") / 4000 == pytest.approx(tg.EPSILON / 2, abs=0.015)


def test_where_nothing_is_left_to_learn_it_goes_where_something_is():
    rates = {"open": rate(200, 200), "close": rate(200, 200), "put_in": rate(200, 200), "take_out": rate(100, 200)}
    rng = np.random.default_rng(0)
    assert tg.choose(DRAWER, frozenset({"closed", "block_in"}), rates, rng, epsilon=0.0) == "open"
    assert tg.choose(DRAWER, frozenset({"open", "block_out"}), rates, rng, epsilon=0.0) == "put_in"
    assert tg.plan(DRAWER, frozenset({"closed", "block_out"}), lambda name: name == "take_out", rates) == [
        "open",
        "put_in",
        "take_out",
    ]


def test_the_path_takes_reliable_tasks_and_not_the_fewest():
    short = task("short", ["a"], ["a"], ["c"])
    one, two = task("one", ["a"], ["a"], ["b"]), task("two", ["b"], ["b"], ["c"])
    goal = task("goal", ["c"], ["c"], ["a"])
    ways = graph(short, one, two, goal, start=["a"])
    rates = {"short": rate(1, 20), "one": rate(20, 20), "two": rate(20, 20)}
    assert tg.plan(ways, ways.start, lambda name: name == "goal", rates) == ["one", "two", "goal"]
    rates["short"] = rate(20, 20)
    assert tg.plan(ways, ways.start, lambda name: name == "goal", rates) == ["short", "goal"]
    assert tg.plan(ways, ways.start, lambda name: name == "fly", rates) is None


def test_where_no_task_is_possible_nobody_chooses():
    assert tg.choose(DRAWER, frozenset({"lost"}), {}, np.random.default_rng(0)) is None


# --- properties -----------------------------------------------------------------------------------------------------

CONDITIONS = st.frozensets(st.sampled_from("abcd"), min_size=1, max_size=2)
PAIRS = st.lists(st.tuples(CONDITIONS, CONDITIONS, st.frozensets(st.sampled_from("abcd"), max_size=1)), min_size=1, max_size=3)


@given(PAIRS, st.frozensets(st.sampled_from("abcd"), min_size=1), st.integers(0, 1000), st.data())
def test_practice_in_an_accepted_graph_never_ends_and_reaches_every_task(pairs, start, seed, data):
    ways = [(here | other, here - there, there) for here, there, other in pairs]
    back = [(there, there - here, here) for here, there, _ in pairs]
    drawn = graph(*(task(f"t{i}", *shape) for i, shape in enumerate(ways + back)), start=start)
    try:
        tg.validate(drawn)
    except ConfigError as error:
        assert "tasks/t" in str(error) and ".yaml: forward." in str(error), "a refusal names file and key"
        return
    rng, scene, rates = np.random.default_rng(seed), drawn.start, {}
    for _ in range(15):
        chosen = tg.choose(drawn, scene, rates, rng)
        assert chosen in drawn.possible(scene)
        if data.draw(st.booleans()):
            scene = drawn.tasks[chosen].after(scene)
    for name in drawn.tasks:
        path = tg.plan(drawn, scene, lambda other, name=name: other == name, rates)
        assert path is not None and path[-1] == name
        walked = scene
        for step in path:
            assert step in drawn.possible(walked)
            walked = drawn.tasks[step].after(walked)
