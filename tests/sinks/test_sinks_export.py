"""`etude runs export`: the right attempts, nothing overwritten, nothing half written, and every refusal names its remedy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from etude.cli import COMMANDS
from etude.config import REPOSITORY
from etude.episodes.store import EpisodeStore, StoreError
from etude.sinks.aside import written_aside
from etude.sinks.attempts import chosen, stored_attempts
from etude.sinks.commands import numbers_of, runs_export
from etude.sinks.errors import ExportError


def numbers(attempts) -> list[int]:
    return [attempt.info.segment for attempt in attempts]


# --- which attempts -----------------------------------------------------------------------------------------------


def test_attempts_are_in_order_and_know_the_steps_before_them(run):
    attempts = stored_attempts(EpisodeStore.open(run.episodes))
    assert [(attempt.info.segment, attempt.env_steps) for attempt in attempts] == [(1, 0), (2, 3), (3, 7)]


def test_attempts_are_chosen_by_number_or_as_the_newest(run):
    attempts = stored_attempts(EpisodeStore.open(run.episodes))
    assert numbers(chosen(attempts)) == [1, 2, 3]
    assert numbers(chosen(attempts, numbers={3, 1})) == [1, 3]
    assert numbers(chosen(attempts, newest=2)) == [2, 3] and numbers(chosen(attempts, newest=9)) == [1, 2, 3]
    with pytest.raises(ExportError, match="attempt 4, 5, 6, 7, 8, … is not stored; the run has 3 of them, from 1 to 3"):
        chosen(attempts, numbers=range(1, 30))
    with pytest.raises(ExportError, match="no attempt is stored yet"):
        chosen([])


def test_ranges_are_read_and_nonsense_is_refused():
    assert list(numbers_of("3")) == [3] and list(numbers_of("5..9")) == [5, 6, 7, 8, 9]
    for text in ("x", "9..5", "5..", "-1", "1.5", "1..999999999"):
        with pytest.raises(Exception, match="neither a number nor a range"):
            numbers_of(text)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to write"),
        (["--mcap", "x.mcap", "--follow"], "--follow is for --wandb"),
        (["--mcap", "x.mcap", "--newest", "0"], "no number above 0"),
        (["--mcap", "x.mcap", "--newest", "1", "--attempts", "1"], "not allowed with"),
    ],
)
def test_wrong_usage_is_explained(arguments, message, capsys):
    with pytest.raises(SystemExit):
        runs_export(["one", *arguments])
    assert message in capsys.readouterr().err


def test_a_run_without_stored_attempts_is_refused(folder, tmp_path):
    pytest.importorskip("rosbags")
    with pytest.raises(StoreError, match="no episode store"):
        runs_export([str(folder.root), "--mcap", str(tmp_path / "a.mcap")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_what_is_there_is_replaced_only_with_force(run, tmp_path):
    pytest.importorskip("rosbags")
    out = tmp_path / "a.mcap"
    out.write_text("mine")
    arguments = ["one", "--root", str(run.root.parent), "--mcap", str(out)]
    with pytest.raises(ExportError, match="there already: name another place, or replace it with --force"):
        runs_export(arguments)
    assert out.read_text() == "mine"
    assert runs_export([*arguments, "--force"]) == 0
    assert out.read_bytes().startswith(b"\x89MCAP0")


def test_the_place_is_checked_before_anything_is_read(tmp_path):
    with pytest.raises(ExportError, match="there is no folder"), written_aside(tmp_path / "none" / "a.mcap", False):
        raise AssertionError


def test_every_example_of_the_help_can_be_parsed():
    from etude.sinks.commands import EXAMPLES, _parser

    for line in EXAMPLES.splitlines()[1:]:
        words = line.partition("etude runs export ")[2].partition("#")[0].split()
        assert words and _parser().parse_args(words)


def test_the_command_is_there_and_its_help_needs_no_optional_package():
    assert COMMANDS["runs export"].target == "etude.sinks.commands:runs_export"
    code = (
        "import sys; from etude.cli import main\n"
        "try: main(['runs', 'export', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'rosbags', 'rerun', 'wandb'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout


# --- writing aside ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_export_leaves_nothing_half(tmp_path, error):
    out = tmp_path / "bag"
    with pytest.raises(error), written_aside(out, False) as aside:
        aside.mkdir()
        (aside / "half.mcap").write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_an_interrupted_replacement_keeps_the_old_one(tmp_path):
    out = tmp_path / "a.mcap"
    out.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_aside(out, True) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert out.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_force_replaces_a_bag_and_no_other_folder(tmp_path):
    bag, other, loose = tmp_path / "bag", tmp_path / "thesis", tmp_path / "recordings"
    for folder, name in ((bag, "metadata.yaml"), (other, "thesis.tex"), (loose, "monday.mcap")):
        folder.mkdir()
        (folder / name).write_text("old")
    with written_aside(bag, True) as aside:
        aside.mkdir()
        (aside / "new.mcap").write_text("new")
    assert [path.name for path in bag.iterdir()] == ["new.mcap"]
    for folder in (other, loose):
        with pytest.raises(ExportError, match="holds other things than one bag"), written_aside(folder, True):
            raise AssertionError
    assert (other / "thesis.tex").exists() and (loose / "monday.mcap").exists() and len(list(tmp_path.iterdir())) == 3


def test_a_bag_replaces_a_file_of_its_name(tmp_path):
    out = tmp_path / "bag"
    out.write_text("old")
    with written_aside(out, True) as aside:
        aside.mkdir()
    assert out.is_dir() and len(list(tmp_path.iterdir())) == 1


def test_what_could_not_be_replaced_is_still_there(tmp_path):
    bag = tmp_path / "bag"
    bag.mkdir()
    (bag / "metadata.yaml").write_text("old")
    with pytest.raises(FileNotFoundError), written_aside(bag, True):
        pass  # a writer that has written nothing
    assert (bag / "metadata.yaml").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mcap", "{run}/a.mcap"], "is in the run's folder"),
        (["--mcap", "{tmp}/a", "--rerun", "{tmp}/a"], "one place for two exports"),
    ],
)
def test_a_place_that_an_export_must_not_have_is_refused(run, tmp_path, words, message):
    pytest.importorskip("rosbags")
    if "--rerun" in words:
        pytest.importorskip("rerun")
    before = sorted(run.root.rglob("*"))
    with pytest.raises(ExportError, match=message):
        runs_export([str(run.root), *(word.format(run=run.root, tmp=tmp_path) for word in words)])
    assert sorted(run.root.rglob("*")) == before
