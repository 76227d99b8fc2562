"""Words of a person during practice ("a bit to the left") as a motion, by a table of phrases: YAY Robot (Shi et al. 2024).

The motion is carried out as any operator's commands are (`actor.takeover`): one authority, through the safety filter, given back
to the policy within the same segment. The steps that it moves are a person's and have the words as their instruction.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from actor.teleop.command import TeleopCommand, TeleopError
from etude.config import CONFIG_ROOT, ConfigError, build, read_named
from etude.config.phrases import Phrase, PhraseTable

DEVICE = "words"
LIKE = 0.85
"""How alike every word must be to the phrase's, 0 to 1 (`difflib.SequenceMatcher.ratio`): a slip of the keyboard is forgiven, but
"tight" is not "right", and a word that belongs to any phrase is no slip of another."""
STOPS = ("stop", "halt", "freeze")
"""Words that are the software stop, wherever in the text and whatever the table says."""
SHORTEST_S = 0.5
"""A short motion is slower instead, so that it is a few control steps long and ends where it should."""
LONGEST = 200
"""Letters of an instruction, at most."""


@dataclass(frozen=True)
class Motion:
    """One phrase carried out. `linear_m_s` is in the robot's base frame, `yaw_rad_s` about its z; NaN leaves the gripper."""

    meaning: str
    linear_m_s: tuple[float, float, float]
    yaw_rad_s: float
    gripper: float
    seconds: float


def load_phrases(name: str = "phrases") -> PhraseTable:
    """``robot_configs/phrases.yaml``, or the file at `name` when it ends in .yaml.

    Raises:
        ConfigError: it makes no sense, or a phrase could never be understood as it is written.
    """
    place = name if ".yaml" in name else str(CONFIG_ROOT.name) + "/phrases.yaml"
    table = build(PhraseTable, read_named(".", name), place)
    for phrase in table.phrases:
        for way in phrase.say:
            words = _parts(way, table)
            if means_stop(way) or len(words) != 1 or _found(*_scaled(words[0], table), table) != (way, phrase, 1.0):
                raise ConfigError(
                    f"{place}: {way!r} is not understood as it is written, because of a word that is in `scales` "
                    f"or in another phrase, a conjunction or one of {', '.join(STOPS)}: say it otherwise"
                )
    return table


def means_stop(text: str) -> bool:
    """Whether a person wants the software stop: one of `STOPS` is among the words, in whatever sentence."""
    return any(word in STOPS for word in re.findall(r"[^\W_]+", text.lower()))


def understand(text: str, table: PhraseTable) -> tuple[Motion, ...]:
    """The motions that `text` means, one after another where it says "and" or a comma.

    Raises:
        TeleopError: it says nothing, or something that no phrase is like; the message has the nearest ones.
    """
    if len(text) > LONGEST:
        raise TeleopError(f"an instruction has {len(text)} letters, more than {LONGEST}: say it shorter")
    motions = tuple(_motion(words, table) for words in _parts(text, table))
    if not motions:
        raise TeleopError("nothing was said; for example: a bit to the left")
    return motions


def impossible(motions: Sequence[Motion], actions: Sequence[str]) -> str:
    """Why a robot with these `actions` cannot carry `motions` out; empty when it can."""
    for motion in motions:
        wanted = {name: abs(speed) > 1e-9 for name, speed in zip("xyz", motion.linear_m_s, strict=True)}
        wanted |= {"yaw": bool(motion.yaw_rad_s), "gripper": math.isfinite(motion.gripper)}
        missing = [name for name, is_wanted in wanted.items() if is_wanted and name not in actions]
        if missing:
            return f"{motion.meaning!r} takes {', '.join(missing)}, and this task moves {', '.join(actions)} alone"
    return ""


def told(motions: Sequence[Motion]) -> str:
    """What was understood, for a person."""
    return ", then ".join(f"{motion.meaning} ({motion.seconds:.1f} s)" for motion in motions)


def duration_s(motions: Sequence[Motion]) -> float:
    return sum(motion.seconds for motion in motions)


def command_at(motions: Sequence[Motion], elapsed_s: float, operator: str, text: str, now_s: float) -> TeleopCommand:
    """The command `elapsed_s` seconds after the first one; after the last motion it hands the robot back."""
    for motion in motions:
        if elapsed_s < motion.seconds:
            return TeleopCommand(
                operator,
                takeover=True,
                deadman=True,
                linear_m_s=motion.linear_m_s,
                angular_rad_s=(0.0, 0.0, motion.yaw_rad_s),
                gripper=motion.gripper,
                instruction=text,
                at_s=now_s,
            )
        elapsed_s -= motion.seconds
    return TeleopCommand(operator, takeover=False, deadman=False, at_s=now_s)


def listing(table: PhraseTable) -> Iterator[str]:
    """One line per phrase: how it is said and what it does."""
    for phrase in table.phrases:
        yield f"{' | '.join(phrase.say):45s} {_carried_out(phrase.say[0], phrase, 1.0, table).meaning}"


def _parts(text: str, table: PhraseTable) -> list[str]:
    """The words of what is said one after another, where they mean something."""
    parts = [_words(part) for part in re.split(r"\band\b|\bthen\b|[,;.!]", text.lower())]
    return [words for words in parts if "" not in _meanings(words, table)]


def _words(said: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", said.lower()))


def _meanings(words: str, table: PhraseTable) -> set[str]:
    """`words` with and without each of the fillers among them: "please let go" is "let go", whose "go" belongs to it."""
    meanings = {words}
    for filler in table.fillers:
        meanings |= {_without(meaning, filler) for meaning in meanings}
    return meanings


def _scaled(said: str, table: PhraseTable) -> tuple[str, float]:
    """`said` without the word that says how much, and how much that is."""
    for much in sorted(table.scales, key=len, reverse=True):
        if (rest := _without(said, much)) != said:
            return rest, table.scales[much]
    return said, 1.0


def _found(words: str, scale: float, table: PhraseTable) -> tuple[str, Phrase, float] | None:
    """The way to say it that `words` are like, its phrase, and `scale`; None when they are like none."""
    ways = {way: phrase for phrase in table.phrases for way in phrase.say}
    known = {word for way in ways for word in way.split()}
    pairs = [(meaning, way) for meaning in _meanings(words, table) for way in ways]
    alike, way = max((_likeness(meaning, way, known), way) for meaning, way in pairs)
    return (way, ways[way], scale) if alike >= LIKE else None


def _motion(said: str, table: PhraseTable) -> Motion:
    words, scale = _scaled(said, table)
    found = _found(words, scale, table)
    if found is None:
        ways = [way for phrase in table.phrases for way in phrase.say]
        near = ", ".join(map(repr, difflib.get_close_matches(words, ways, n=3, cutoff=0.0)))
        raise TeleopError(f"{said!r} is not understood: say for example {near}, or add it to robot_configs/phrases.yaml")
    way, phrase, _ = found
    if phrase.gripper is not None and scale != 1.0:
        raise TeleopError(f"{way!r} is all or nothing: say it without how much")
    return _carried_out(way, phrase, scale, table)


def _likeness(words: str, way: str, known: Set[str]) -> float:
    """Of the two words that are least alike; 0 where one has more words: "not to the left" is not like "to the left". Words that
    are in `known`, those of all phrases, are alike only when they are the same: "closer" is not "close"."""
    pairs = list(zip(words.split(), way.split(), strict=False))
    if not pairs or len(words.split()) != len(way.split()):
        return 0.0
    return min(float(one == other) if one in known else _ratio(one, other) for one, other in pairs)


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _carried_out(way: str, phrase: Phrase, scale: float, table: PhraseTable) -> Motion:
    yaw = math.radians(table.forward_yaw_deg)
    x, y, z = (scale * value for value in phrase.move_m)
    move_m = (x * math.cos(yaw) - y * math.sin(yaw), x * math.sin(yaw) + y * math.cos(yaw), z)
    distance_m, turn_deg = math.dist(move_m, (0, 0, 0)), scale * phrase.turn_deg
    needed = [distance_m / table.linear_m_s, abs(turn_deg) / table.angular_deg_s]
    seconds = max(SHORTEST_S, *needed, table.gripper_s if phrase.gripper is not None else 0.0)
    does = [way]
    if distance_m:
        does.append(f"{1e3 * distance_m:.0f} mm")
    if turn_deg:
        does.append(f"{abs(turn_deg):.0f} degrees")
    return Motion(
        " ".join(does),
        (move_m[0] / seconds, move_m[1] / seconds, move_m[2] / seconds),
        math.radians(turn_deg) / seconds,
        math.nan if phrase.gripper is None else phrase.gripper,
        seconds,
    )


def _without(words: str, part: str) -> str:
    return " ".join(re.sub(rf"\b{re.escape(part)}\b", " ", words).split())
