"""Clips worth a look: those that the cascade put right, typical ones, and those that it gets wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

KINDS = ("put right", "typical", "still wrong", "made worse")


@dataclasses.dataclass(frozen=True)
class Choice:
    """A clip, by its place in the split, and why it was chosen: one of `KINDS`."""

    kind: str
    clip: int


def margins(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How far the lowest score of a clip's labels lies above the highest of its other classes.

    Args:
        labels: multi-hot truth, bool [clips, classes].
        scores: clip scores in 0..1, [clips, classes].

    Returns:
        float64 [clips] in -1..1: above 0 where every label comes before every other class; NaN for clips of which no
        class, or every class, is a label.
    """
    scores = np.asarray(scores, np.float64)
    lowest = np.where(labels, scores, np.inf).min(axis=1)
    highest = np.where(labels, -np.inf, scores).max(axis=1)
    difference = np.full(len(scores), np.nan)
    np.subtract(lowest, highest, out=difference, where=np.isfinite(lowest) & np.isfinite(highest))
    return difference


def choose_examples(
    labels: np.ndarray, base_scores: np.ndarray | None, scores: np.ndarray, count: int
) -> list[Choice]:
    """Picks clips by rule: the same scores give the same clips.

    In turn, until there are `count`: the clip that gained most among those that the base gets wrong and the last stage
    right (`put right`); the one whose margin is nearest to the median of those that are right (`typical`); the one that
    both get wrong, the last stage by most (`still wrong`); the one that lost most among those that only the base gets
    right (`made worse`). Clips whose labels were not shown yet go first; of equals, the first in the split.

    Args:
        labels: multi-hot truth, [clips, classes].
        base_scores, scores: clip scores of the base and the last stage, [clips, classes]; None if they are one.
        count: how many clips at most.

    Returns:
        The choices in the order of `KINDS`.
    """
    labels = np.asarray(labels) > 0.5
    last = margins(labels, scores)
    base = last if base_scores is None else margins(labels, base_scores)
    right, was_right = last > 0, base > 0
    middle = np.median(last[right]) if right.any() else 0.0
    queues = {
        "put right": _queue(right & (base <= 0), base - last),
        "typical": _queue(right & was_right, np.abs(last - middle)),
        "still wrong": _queue((last <= 0) & (base <= 0), last),
        "made worse": _queue((last <= 0) & was_right, last - base),
    }
    chosen: list[Choice] = []
    shown: set[bytes] = set()
    while len(chosen) < count and any(queues.values()):
        for kind, queue in queues.items():
            if queue and len(chosen) < count:
                clip = next((one for one in queue if labels[one].tobytes() not in shown), queue[0])
                queue.remove(clip)
                shown.add(labels[clip].tobytes())
                chosen.append(Choice(kind, clip))
    return sorted(chosen, key=lambda choice: KINDS.index(choice.kind))


def _queue(candidates: np.ndarray, key: np.ndarray) -> list[int]:
    """The places of the candidates, by rising key."""
    places = np.flatnonzero(candidates)
    return places[np.argsort(key[places], kind="stable")].tolist()


def leading_classes(labels: np.ndarray, scores: np.ndarray, count: int) -> Iterator[int]:
    """The classes of a clip to be shown: its labels by falling score, then the other classes; `count` at most.

    At least one class that is no label is shown, where there is one: labels [classes], scores [classes].
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist()
    own = [c for c in order if labels[c]]
    others = [c for c in order if not labels[c]]
    own = own[: count - bool(others)]
    yield from own
    yield from others[: count - len(own)]


def explain(choice: Choice, labels: Sequence[str], rival: str, base: int, last: int) -> str:
    """A sentence that says why a clip is shown.

    Args:
        choice: the clip.
        labels: the display names of its labels.
        rival: the class without label that comes first, at the base stage for what was put right, else at the last.
        base, last: the stages.
    """
    own, one = ("its label", "its label") if len(labels) == 1 else ("all its labels", "one of its labels")
    return {
        "put right": f"Stage {last} puts {own} before all other classes; stage {base} put {rival} in front.",
        "typical": f"Right, and as clearly as half of the clips that stage {last} gets right.",
        "still wrong": f"Stage {last} puts {rival} before {one}; it gets few clips more wrong.",
        "made worse": f"Stage {base} was right; stage {last} puts {rival} in front.",
    }[choice.kind]
