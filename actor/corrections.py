"""Words of a person during practice ("a bit to the left") as a motion, by a table of phrases: YAY Robot (Shi et al. 2024).

The motion is carried out as any operator's commands are (`actor.takeover`): one authority, through the safety filter, given back
to the policy within the same segment. The steps that it moves are a person's and have the words as their instruction.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actor.teleop.command import TeleopCommand, TeleopError
from etude.config import CONFIG_ROOT, build, read_named
from etude.config.phrases import Phrase, PhraseTable

DEVICE = "words"
LIKE = 0.8
"""How alike every word must be to the phrase's, 0 to 1 (`difflib.SequenceMatcher.ratio`): a slip of the keyboard is forgiven."""
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
    """``robot_configs/phrases.yaml``, or the file at `name` when it ends in .yaml. Raises ConfigError."""
    return build(PhraseTable, read_named(".", name), name if ".yaml" in name else str(CONFIG_ROOT.name) + "/phrases.yaml")


def understand(text: str, table: PhraseTable) -> tuple[Motion, ...]:
    """The motions that `text` means, one after another where it says "and" or a comma.

    Raises:
        TeleopError: it says nothing, or something that no phrase is like; the message has the nearest ones.
    """
    if len(text) > LONGEST:
        raise TeleopError(f"an instruction has {len(text)} letters, more than {LONGEST}: say it shorter")
    parts = [_meant(part, table) for part in re.split(r"\band\b|\bthen\b|[,;.!]", text.lower())]
    motions = tuple(_motion(words, table) for words in parts if words)
    if not motions:
        raise TeleopError("nothing was said; for example: a bit to the left")
    return motions


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
        yield f"{' | '.join(phrase.say):45s} {_motion(phrase.say[0], table).meaning}"


def _meant(said: str, table: PhraseTable) -> str:
    """The words of `said` that mean something."""
    words = " ".join(re.findall(r"[^\W_]+", said.lower()))
    for filler in table.fillers:
        words = _without(words, filler)
    return words


def _motion(said: str, table: PhraseTable) -> Motion:
    words, scale = said, 1.0
    for much in sorted(table.scales, key=len, reverse=True):
        if (rest := _without(words, much)) != words:
            words, scale = rest, scale * table.scales[much]
            break
    ways = {way: phrase for phrase in table.phrases for way in phrase.say}
    way = max(ways, key=lambda way: _likeness(words, way))
    if _likeness(words, way) < LIKE:
        near = ", ".join(map(repr, difflib.get_close_matches(words, ways, n=3, cutoff=0.0)))
        raise TeleopError(f"{said!r} is not understood: say for example {near}, or add it to robot_configs/phrases.yaml")
    return _carried_out(way, ways[way], scale, table)


def _likeness(words: str, way: str) -> float:
    """Of the two words that are least alike; 0 where one has more words: "not to the left" is not like "to the left"."""
    pairs = list(zip(words.split(), way.split(), strict=False))
    if not pairs or len(words.split()) != len(way.split()):
        return 0.0
    return min(difflib.SequenceMatcher(None, one, other).ratio() for one, other in pairs)


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
