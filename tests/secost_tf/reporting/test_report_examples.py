import numpy as np
import pytest

from secost_tf.reporting.examples import (
    KINDS,
    Choice,
    choose_examples,
    explain,
    leading_classes,
    margins,
)

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]], bool)
SCORES = np.array(
    [[0.9, 0.2, 0.5], [0.9, 0.3, 0.5], [0.9, 0.2, 0.5], [0.9, 0.2, 0.5], [0.1, 0.4, 0.4]]
)


def test_margins_of_hand_worked_clips():
    # 0.9 - 0.5; 0.3 - 0.5; no label; nothing but labels; a tie is not above
    np.testing.assert_allclose(
        margins(LABELS, SCORES), [0.4, -0.2, np.nan, np.nan, 0.0], atol=1e-12
    )


def of_margins(*values: float) -> tuple[np.ndarray, np.ndarray]:
    """Clips of two classes, the first of which is the label, with these margins."""
    labels = np.zeros((len(values), 2), bool)
    labels[:, 0] = True
    return labels, np.array([[0.5 + value / 2, 0.5 - value / 2] for value in values])


def test_each_kind_is_chosen_by_its_rule():
    # clip:            0     1     2     3     4     5     6
    before = (-0.2, -0.9, 0.3, 0.3, -0.5, -0.1, 0.8)
    after = (0.8, 0.5, 0.4, 0.1, -0.3, -0.7, -0.1)
    labels, base = of_margins(*before)
    _, last = of_margins(*after)
    # gained most: clip 1 (1.4 against 1.0). The right ones are 0 to 3, their median margin 0.45:
    # clip 2 is nearest of those that were right too. Wrong by most both times: clip 5. Lost most:
    # clip 6.
    assert choose_examples(labels, base, last, 4) == list(map(Choice, KINDS, (1, 2, 5, 6)))
    assert choose_examples(labels, base, last, 2) == [Choice("put right", 1), Choice("typical", 2)]
    chosen = choose_examples(labels, base, last, 100)
    assert sorted(choice.clip for choice in chosen) == list(range(7))
    assert [choice.kind for choice in chosen] == sorted((c.kind for c in chosen), key=KINDS.index)


def test_other_labels_go_before_labels_that_were_shown():
    labels = np.array([[1, 0], [1, 0], [0, 1]], bool)
    base = np.array([[0.0, 1.0], [0.1, 0.9], [0.5, 0.5]])
    last = np.array([[1.0, 0.0], [0.9, 0.1], [0.4, 0.6]])
    chosen = choose_examples(labels, base, last, 2)
    assert [choice.clip for choice in chosen] == [0, 2]
    assert [choice.clip for choice in choose_examples(labels, base, last, 3)] == [0, 2, 1]


def test_of_equal_clips_the_first_is_taken_and_one_stage_compares_with_nothing():
    labels, scores = of_margins(*[0.5] * 4, *[-0.5] * 4)
    assert choose_examples(labels, None, scores, 2) == [
        Choice("typical", 0),
        Choice("still wrong", 4),
    ]
    assert {c.kind for c in choose_examples(labels, None, scores, 8)} == {"typical", "still wrong"}


def test_clips_that_cannot_be_right_or_wrong_are_not_chosen():
    assert choose_examples(LABELS[2:4], None, SCORES[2:4], 5) == []
    assert choose_examples(LABELS, None, SCORES, 0) == []


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        ((0, 1, 0, 1), 3, [3, 1, 2]),  # labels by falling score, then the highest of the others
        ((1, 1, 0, 1), 3, [3, 0, 2]),  # there is always one of the others
        ((1, 1, 1, 1), 2, [2, 3]),
        ((0, 0, 0, 0), 2, [2, 3]),
        ((0, 1, 0, 0), 9, [1, 2, 3, 0]),
    ],
)
def test_leading_classes(labels, count, expected):
    assert (
        list(leading_classes(np.array(labels), np.array([0.3, 0.1, 0.9, 0.8]), count)) == expected
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_explained(kind):
    text = explain(Choice(kind, 0), ["Bark"], "Bell", 0, 2)
    assert "tage 2" in text and text.endswith(".") and ("Bell" in text) == (kind != "typical")
