"""Commands around labels: `etude classifier label` asks a person in the terminal, `adapt` reweights by the answers,
`mine` collects known mistakes, `relabel` writes stored rewards anew."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reward_classifiers.commands import episodes_in, open_store
from reward_classifiers.files import ClassifierError

if TYPE_CHECKING:
    from etude.config.axes import RewardConfig

QUESTION = "success? [y]es, [n]o, [s]kip, [q]uit: "


def label_command(argv: Sequence[str], ask: Callable[[str], str] = input) -> int:
    """`etude classifier label`: the frames that matter most, one after another; labels go into a store of their own."""
    parser = argparse.ArgumentParser(
        prog="etude classifier label",
        description="Label the newest frames that the classifier called success, and those that it is most unsure about. Each is "
        "drawn into a picture file that is overwritten: keep it open in a viewer that reloads.",
        epilog="examples:\n  etude classifier label --classifier runs/latest/classifier --episodes runs/latest\n"
        "  etude classifier label --classifier data/classifiers/slide --episodes runs/demo --out my-labels --count 8",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument("--episodes", type=Path, required=True, help="episode store, or a run folder")
    parser.add_argument(
        "--out", type=Path, help="episode store of labels, made or added to (default: labels beside the episodes)"
    )
    parser.add_argument("--count", type=int, default=20, help="frames to ask about (default: %(default)s)")
    parser.add_argument(
        "--picture", type=Path, default=Path("label.png"), help="where each frame is drawn (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    from etude.status import labelled_false_positives
    from reward_classifiers.judge import load_judge
    from reward_classifiers.labels import (
        HISTORY,
        STORE_NAME,
        Answers,
        add_label,
        calls,
        label_queue,
        open_labels,
        picture,
        precision_of,
    )

    judge = load_judge(arguments.classifier)
    path = episodes_in(arguments.episodes)
    out = arguments.out or path.parent / STORE_NAME
    answered, labels, answers = [], [], Answers(out)
    with open_store(path, "etude practice run") as source, open_labels(out, source) as store:
        judge.check(source.observation_spec)
        questions = label_queue(judge, source, arguments.count, answers.known)
        called, attempts = calls(judge, source)
        for number, question in enumerate(questions, 1):
            picture(source, question, arguments.picture)
            info = question.info
            print(
                f"{number}/{len(questions)} {arguments.picture}: {info.phase} ({info.instruction}), segment {info.segment}, "
                f"frame {question.row}, p={question.probability:.2f}, {question.kind}"
            )
            answer = _answer(ask)
            if answer == "q":
                break
            answers.add(question, None if answer == "s" else answer == "y", judge.name)
            if answer == "s":
                continue
            answered.append(question)
            labels.append(int(answer == "y"))
            add_label(store, source, question, answer == "y", max(HISTORY, judge.backend.frames))
        store.flush()
    print(f"{len(labels)} labels added to {out}")
    precision = precision_of(answered, labels)
    if precision.trials:
        print(f"of the frames called success that you labelled, this share was: {precision}")
        share, low, high = labelled_false_positives(precision.successes, precision.trials, called, attempts)
        print(f"false positives among {attempts} attempts, by these labels: {share:.3f} [{low:.3f}, {high:.3f}]")
    return 0


def _answer(ask: Callable[[str], str]) -> str:
    while True:
        try:
            answer = ask(QUESTION).strip().lower()[:1]
        except EOFError:
            return "q"
        if answer and answer in "ynsq":
            return answer


def adapt_command(argv: Sequence[str]) -> int:
    """`etude classifier adapt`: trust the members of an ensemble by a few labels of a changed scene, without training (HyRe)."""
    parser = argparse.ArgumentParser(
        prog="etude classifier adapt",
        description="Reweight the members of a probe by a person's labels (HyRe) and write it as a new version. Takes seconds.",
        epilog="examples:\n  etude classifier adapt --classifier runs/demo/classifier --labels runs/demo/labels --out adapted\n"
        "  etude classifier adapt --classifier data/classifiers/slide --labels my-labels --out adapted --most 8",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument("--labels", type=Path, required=True, help="episode store with a person's labels")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new version")
    parser.add_argument("--most", type=int, metavar="N", help="use at most N labels per direction")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    arguments = parser.parse_args(argv)
    from reward_classifiers.reweighting import adapt_classifier

    with open_store(arguments.labels, "etude classifier label") as store:
        report = adapt_classifier(arguments.classifier, store, arguments.out, arguments.most)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), **report}))
        return 0
    print(f"classifier {report['backend']}:{report['digest'][:8]} in {arguments.out} ({report['seconds']:.1f} s)")
    for phase, count in report["labels"].items():
        print(f"{phase}: {count} labels, {report['effective_members'][phase]:.1f} members count")
    return 0


def import_labels_command(argv: Sequence[str]) -> int:
    """`etude classifier import-labels`: what people said on the page about attempts, as labels for the next version."""
    parser = argparse.ArgumentParser(
        prog="etude classifier import-labels",
        description="Make labels of what people said on the run's page about finished attempts: the last frame of each, for "
        "`etude classifier train --play` and `adapt`.",
        epilog="examples:\n  etude classifier import-labels --run runs/latest",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--out", type=Path, help="new episode store (default: page-labels in the run folder)")
    parser.add_argument("--history", type=int, default=4, help="frames kept, the labelled one included (default: %(default)s)")
    arguments = parser.parse_args(argv)
    from etude.run_folder import RunFolder
    from reward_classifiers.labels import add_label, open_labels, page_labels, questions_about

    said = page_labels(RunFolder(arguments.run).attempt_labels)
    out = arguments.out or arguments.run / "page-labels"
    if out.exists():
        raise ClassifierError(f"{out} is there already: name another --out, or move it aside to import all labels anew")
    with open_store(episodes_in(arguments.run), "etude practice run") as source:
        questions = questions_about(source, said)
        if questions:
            with open_labels(out, source) as store:
                for question in questions:
                    add_label(store, source, question, said[question.info.segment], arguments.history)
                store.flush()
    print(
        f"{len(questions)} of {len(said)} attempts that were labelled on the page are stored" + (f": {out}" if questions else "")
    )
    return 0


def mine_command(argv: Sequence[str]) -> int:
    """`etude classifier mine`: frames that the classifier wrongly called success, as labels for the next version."""
    parser = argparse.ArgumentParser(
        prog="etude classifier mine",
        description="Collect frames that a classifier calls success and that a person labelled as none, as labels that "
        "`etude classifier train --play` learns from.",
        epilog="examples:\n  etude classifier mine --classifier runs/latest/classifier --episodes runs/latest",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument("--episodes", type=Path, required=True, help="episode store, or a run folder")
    parser.add_argument(
        "--out", type=Path, help="episode store of labels, made or added to (default: labels beside the episodes)"
    )
    parser.add_argument(
        "--truth", action="store_true", help="in simulation: let the ground truth stand for the person, as in labelled play"
    )
    parser.add_argument("--count", type=int, default=50, help="frames at most (default: %(default)s)")
    arguments = parser.parse_args(argv)
    from reward_classifiers.judge import load_judge
    from reward_classifiers.labels import HISTORY, STORE_NAME, add_label, open_labels
    from reward_classifiers.relabelling import hard_negatives

    judge = load_judge(arguments.classifier)
    path = episodes_in(arguments.episodes)
    out = arguments.out or path.parent / STORE_NAME
    with open_store(path, "etude practice run") as source:
        judge.check(source.observation_spec)
        found = hard_negatives(judge, source, arguments.count, arguments.truth)
        if found:
            with open_labels(out, source) as store:
                for question in found:
                    add_label(store, source, question, False, max(HISTORY, judge.backend.frames))
                store.flush()
    print(f"{len(found)} frames that {judge.name} wrongly calls success" + (f" added to {out}" if found else ""))
    return 0


def relabel_command(argv: Sequence[str]) -> int:
    """`etude classifier relabel`: stored rewards as a newer version would have given them, in a new store."""
    parser = argparse.ArgumentParser(
        prog="etude classifier relabel",
        description="Write a run's episodes with the rewards of another version of its classifier into a new store; the old one "
        "stays. What a person judged is kept. Attempts end where the new version declares success.",
        epilog="examples:\n  etude classifier relabel --classifier adapted --episodes runs/latest --out relabelled",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--classifier", type=Path, required=True, help="folder with classifier.json")
    parser.add_argument("--episodes", type=Path, required=True, help="episode store, or a run folder")
    parser.add_argument("--out", type=Path, required=True, help="the new episode store")
    parser.add_argument("--recipe", default="rlpd", help="whose reward settings are used without a run folder (default: rlpd)")
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    arguments = parser.parse_args(argv)
    from reward_classifiers.judge import load_judge
    from reward_classifiers.relabelling import relabel_store

    reward = _reward_of(arguments.episodes, arguments.recipe)
    judge = load_judge(arguments.classifier)
    with open_store(episodes_in(arguments.episodes), "etude practice run") as source:
        told = relabel_store(judge, source, arguments.out, reward)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), **told}))
        return 0
    print(f"{arguments.out}: rewards of {told['judge']}")
    print(f"successes confirmed {told['confirmed']}, withdrawn {told['withdrawn']}, found {told['found']}")
    print(f"failures {told['failures']}, attempts kept as a person or the environment judged them {told['kept']}")
    return 0


def _reward_of(episodes: Path, recipe: str) -> RewardConfig:
    """The run's own reward settings, else the recipe's."""
    from etude.config import RunConfig, build, load_run_config, read_yaml
    from etude.run_folder import RunFolder

    saved = RunFolder(episodes).config
    if saved.is_file():
        return build(RunConfig, read_yaml(saved), str(saved)).recipe.reward
    return load_run_config({"task": "slide", "robot": {"name": "none"}, "recipe": recipe}).recipe.reward
