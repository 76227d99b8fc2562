# Two commands matter: `make demo` (a robot practises in simulation) and `make test`. Each sets up what it needs first, once:
# .make/ holds a stamp per finished step, so a second call starts in seconds.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

ETUDE := .venv/bin/etude
# with a system ROS 2 sourced nothing comes from wheels, so its stamps are its own
MODE := $(if $(ROS_DISTRO),system,wheels)
VENV_STAMP := .make/venv-$(MODE)
DEV_STAMP := .make/dev-$(MODE)
BUILD_STAMP := .make/interfaces-$(MODE)
export PYTHON

# a deleted or broken environment invalidates its stamps; so does a build made in the other mode
ifneq ($(shell .venv/bin/python -c 'print(1)' 2>/dev/null),1)
$(shell rm -f .make/venv-* .make/dev-* .make/interfaces-*)
endif
ifeq ($(wildcard ros2_ws/install/share/ament_index/resource_index/packages/etude_msgs),)
$(shell rm -f .make/interfaces-*)
endif

flag = $(if $(filter-out 0 no false,$($(1))),$(2))
OBS ?= pixels
ifneq ($(filter demo,$(MAKECMDGOALS)),)
ifneq ($(filter-out pixels state,$(OBS)),)
$(error OBS=$(OBS) is not known: use OBS=pixels or OBS=state)
endif
endif
# a configuration of one's own says what is observed, unless OBS is given too; the default ones follow OBS
given = $(filter-out file undefined,$(origin $(1)))
CONFIG ?= robot_configs/runs/$(if $(filter state,$(OBS)),demo_state,demo).yaml
DEMO_ARGS = --config $(CONFIG) \
  $(if $(call given,CONFIG),$(if $(call given,OBS),$(if $(OBS),--observation $(OBS)))) \
  $(call flag,HEADLESS,--headless) \
  $(if $(MINUTES),--minutes $(MINUTES)) \
  $(if $(SEED),--seed $(SEED)) \
  $(if $(TASK),--task $(TASK)) \
  $(if $(PORT),--port $(PORT)) \
  $(if $(NAME),--name $(NAME)) \
  $(ARGS)

.PHONY: help
help: ## Print this list.
	@echo "usage: make <target> [NAME=value ...]"; echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "demo options: HEADLESS=1 MINUTES=20 SEED=0 OBS=pixels|state TASK=<task> PORT=8420 NAME=<run name> ARGS='key.path=value ...'"

.PHONY: demo
demo: build ## A simulated Franka practises a task alone; prints the address of its page.
	@exec $(ETUDE) practice run $(DEMO_ARGS)

.PHONY: resume
resume: build ## Continue the newest run (or RUN=<folder>) where it stopped.
	@exec $(ETUDE) practice resume $(RUN) $(ARGS)

.PHONY: test
test: build $(DEV_STAMP) ## Run the tests (slow proofs excluded); with ARGS, pytest with these arguments.
	@exec $(if $(ARGS),.venv/bin/python -m pytest $(ARGS),tools/run_tests.sh)

.PHONY: lint
lint: build $(DEV_STAMP) ## Check style, formatting and types.
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.PHONY: format
format: $(DEV_STAMP) ## Put all files into the project's format.
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

.PHONY: bench
bench: build ## Measure speeds and latencies; prints one JSON object per line.
	@exec $(ETUDE) bench $(ARGS)

.PHONY: bench-learner
bench-learner: build ## Measure gradient updates of every kind of recipe on this machine's device (ARGS='--only state-10-utd1').
	@exec $(ETUDE) bench learner $(ARGS)

.PHONY: bench-rewards
bench-rewards: build ## Measure what a probability of success costs, per kind of classifier (ARGS='--only cnn').
	@exec $(ETUDE) bench rewards $(ARGS)

.PHONY: proof-demo
proof-demo: build ## Slow proof (over an hour): the demo reaches its bar from pixels and state in three seeds.
	@exec .venv/bin/python tools/prove.py demo $(ARGS)

.PHONY: proof-tasks
proof-tasks: build ## Slow proof: the other task pairs reach theirs.
	@exec .venv/bin/python tools/prove.py tasks $(ARGS)

.PHONY: proof-hour
proof-hour: build ## Slow proof (over an hour): an hour of practice alone in real time, with at most five calls for help.
	@exec .venv/bin/python tools/prove.py relocate-hour $(ARGS)

.PHONY: proof-learner
proof-learner: build .make/bench-env ## Slow proof (hours): recipes compared from offline to online, three seeds each.
	@exec .venv/bin/python tools/prove_learner.py --resume $(ARGS)

.PHONY: proof-autonomy
proof-autonomy: build ## Slow proof (hours): EARL's tabletop without resets, our recipe beside published methods.
	@exec .venv/bin/python tools/prove_autonomy.py --resume $(ARGS)

.PHONY: proof-medalpp
proof-medalpp: build ## Slow proof (an hour or more): MEDAL++ from two cameras, rewards learned alone, beside cloning; three seeds.
	@exec .venv/bin/python tools/prove_medalpp.py --resume $(ARGS)

.PHONY: proof-go1
proof-go1: build ## Slow proof (hours): a Go1 in MuJoCo goes on living after something breaks.
	@exec .venv/bin/python tools/prove_go1.py $(or $(ARGS),lives)

.PHONY: proof-rewards
proof-rewards: build ## Slow proof: success classifiers on varied scenes, with intervals, and after a shift of the scene.
	@exec .venv/bin/python tools/prove_rewards.py $(ARGS)

.PHONY: proof-learned-reward
proof-learned-reward: build ## Slow proof (hours): practice with the learned reward beside the ground truth, also with mislabelled successes.
	@exec .venv/bin/python tools/prove_learned_reward.py $(ARGS)

.PHONY: proof-hil
proof-hil: build ## Slow proof (an hour on two cores): a scripted person corrects the policy on peg, beside none and a bad one.
	@exec .venv/bin/python tools/prove_hil.py --resume $(ARGS)

.PHONY: proof-keyboard
proof-keyboard: build $(DEV_STAMP) ## Slow proof (10 minutes, needs chromium): demonstrations by keyboard on the page teach a policy.
	@exec .venv/bin/python tools/prove_keyboard.py $(ARGS)

.PHONY: proof-hardware-sim
proof-hardware-sim: build ## Slow proof (20 minutes): a simulated Franka in real time through twenty faults, every command recorded.
	@. tools/ros_env.sh && exec .venv/bin/python tools/prove_hardware_sim.py $(ARGS)

.PHONY: screenshots
screenshots: build $(DEV_STAMP) ## Take the pictures in docs/images of a short run (needs chromium).
	@exec .venv/bin/python tools/screenshot.py $(ARGS)

.PHONY: docker-test
docker-test: ## Build the containers that need no GPU and practise a minute in them (skipped without an engine).
	@exec tools/docker_test.sh

.PHONY: doctor
doctor: build ## Check this machine and say how to mend what is wrong.
	@exec $(ETUDE) doctor $(ARGS)

.PHONY: build
build: .make/system $(VENV_STAMP) $(BUILD_STAMP) ## Set up only: system check, .venv, ROS interfaces.

.PHONY: clean
clean: ## Remove what make built (.venv, interfaces, caches); runs and demonstrations stay.
	rm -rf .venv .venv-bench .make ros2_ws/build ros2_ws/install ros2_ws/log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

.make/system: tools/check_system.sh tools/find_python.sh
	@mkdir -p .make
	@tools/check_system.sh
	@touch $@

$(VENV_STAMP): requirements/base.txt requirements/ros-jazzy.txt pyproject.toml tools/make_venv.sh | .make/system
	@tools/make_venv.sh requirements/base.txt
	@touch $@

.make/bench-env: tools/make_bench_env.sh pyproject.toml $(VENV_STAMP)
	@tools/make_bench_env.sh
	@touch $@

$(DEV_STAMP): requirements/dev.txt $(VENV_STAMP)
	@tools/make_venv.sh requirements/dev.txt
	@touch $@

WORKSPACE_FILES := $(shell find ros2_ws/src -name '*.msg' -o -name '*.srv' -o -name CMakeLists.txt -o -name package.xml -o -name 'setup.*')
$(BUILD_STAMP): $(WORKSPACE_FILES) tools/build_interfaces.sh tools/ros_env.sh ros2_ws/cmake/without_wheel_builder_paths.cmake | $(VENV_STAMP)
	@tools/build_interfaces.sh
	@touch $@
