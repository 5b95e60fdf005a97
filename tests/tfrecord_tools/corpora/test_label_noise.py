import dataclasses

import numpy as np
import pytest

from tfrecord_tools.corpora import label_noise
from tfrecord_tools.corpora.label_noise import (
    noisy_labels,
    rates_for_precisions,
    read_label_precisions,
)
from tfrecord_tools.corpora.mixing import SoundscapeConfig, mix_clip
from tfrecord_tools.datasets.clips import ClassMap

MIDS = tuple("abcdefgh")
FIRST = [  # labels of six clips of Bark and Rain
    [],
    ["/m/05tny_", "/m/06mb1"],
    ["/m/05tny_"],
    ["/m/05tny_", "/m/03kmc9"],
    ["/m/06mb1"],
    ["/m/05tny_", "/m/06mb1", "/m/0l156k"],
]
CLASSES = ClassMap(("/m/1", "/m/2", "/t/3"), ("Bark", "Tick-tock", "Waves, surf"))


def matrix(config, num_clips, true, rates):
    """[clips, classes] of what `noisy_labels` gives."""
    labels = [noisy_labels(config, "train", index, true, MIDS, rates) for index in range(num_clips)]
    return np.array([[mid in of_clip for mid in MIDS] for of_clip in labels])


def test_each_absent_class_is_added_at_its_rate_and_each_true_one_left_out():
    true, rates = ["b", "c"], np.array([0, 0.9, 0.9, 0.02, 0.1, 0.3, 1, 0.5])
    noisy = matrix(SoundscapeConfig(missing_rate=0.3), 5_000, true, rates)
    expected = np.where(np.isin(MIDS, true), 0.7, rates)  # the rates of true classes do not count
    error = np.abs(noisy.mean(axis=0) - expected)
    assert (error <= 4 * np.sqrt(expected * (1 - expected) / 5_000)).all()
    # and independently of each other: of the clips with a wrong h, as many have a wrong f
    assert noisy[noisy[:, 7], 5].mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 2_500))
    assert not noisy[:, [1, 2]].any(axis=1).all()


def test_wrong_labels_and_missing_ones_do_not_depend_on_each_other_s_rates():
    few = matrix(SoundscapeConfig(missing_rate=0.2), 300, ["a"], (0.1,) * 8)
    many = matrix(SoundscapeConfig(missing_rate=0.6), 300, ["a"], (0.4,) * 8)
    assert (many[:, 0] <= few[:, 0]).all() and many[:, 0].sum() < few[:, 0].sum()
    assert (many[:, 1:] >= few[:, 1:]).all() and many[:, 1:].sum() > few[:, 1:].sum()


def test_eval_is_clean_and_rates_of_nothing_change_nothing():
    config = SoundscapeConfig(missing_rate=1)
    assert noisy_labels(config, "eval", 0, ["c", "a"], MIDS, (1.0,) * 8) == ["a", "c"]
    assert noisy_labels(config, "train", 0, ["c", "a"], MIDS, (1.0,) * 8) == list("bdefgh")
    assert noisy_labels(SoundscapeConfig(), "train", 0, ["c", "a"], MIDS, (0.0,) * 8) == ["a", "c"]


def test_noise_of_the_first_corpora_is_as_it_was():
    """Drawn once with the first version of the generator."""
    config = SoundscapeConfig(seed=3, missing_rate=0.4, wrong_rate=0.4)
    drawn = [noisy_labels(config, "train", index, ["/m/06mb1", "/m/05tny_"]) for index in range(6)]
    assert drawn == FIRST


@pytest.mark.parametrize(
    ("config", "rates", "message"),
    [
        (SoundscapeConfig(), (0.1,) * 7, "expected one for each of 8 classes, got 7"),
        (SoundscapeConfig(), (0.1,) * 7 + (1.5,), "expected numbers from 0 to 1, got 1.5"),
        (SoundscapeConfig(), (0.1,) * 7 + (float("nan"),), "expected numbers from 0 to 1, got nan"),
        (
            SoundscapeConfig(wrong_rate=0.2),
            (0.1,) * 8,
            r"does not go with wrong_rate .* got wrong_rate 0\.2",
        ),
    ],
)
def test_bad_rates_are_refused(config, rates, message):
    with pytest.raises(ValueError, match=f"wrong_label_rates: {message}"):
        label_noise.check_wrong_label_rates(config, rates, 8)


# === Precisions ===


def test_prevalence_is_the_share_of_clips_with_a_class():
    config = SoundscapeConfig(min_seconds=1, max_seconds=1, max_events=3)
    assert config.prevalence(8) == 0.25  # two events on average, of eight classes
    clips = [
        mix_clip(config, "train", index, 8, lambda *_: np.ones(3200))[1] for index in range(2_000)
    ]
    counts = np.bincount([label for events in clips for label, _, _ in events], minlength=8)
    assert counts / 2_000 == pytest.approx([0.25] * 8, abs=4 * np.sqrt(0.25 * 0.75 / 2_000))


def test_rates_by_hand():
    """q = 0.25, m = 0.2: a right label on 0.2 of the clips; at p = 0.5 as many wrong ones, on 0.75
    of them.
    """
    config = SoundscapeConfig(max_events=3, missing_rate=0.2)
    rates = rates_for_precisions(config, (1, 0.5, 0.8, 1, 1, 1, 1, 1), MIDS)
    assert rates == pytest.approx((0, 0.2 / 0.75, 0.05 / 0.75, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("missing_rate", [0.0, 0.5])
def test_labels_have_the_precision_asked_for(missing_rate):
    config = SoundscapeConfig(max_events=3, missing_rate=missing_rate)
    precisions = np.array([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    rates = rates_for_precisions(config, precisions, MIDS)
    rng = np.random.default_rng(0)
    right, given = np.zeros(8), np.zeros(8)
    for index in range(6_000):
        true = rng.choice(8, rng.integers(1, 4), replace=False)
        labels = noisy_labels(config, "train", index, [MIDS[i] for i in true], MIDS, rates)
        is_given = np.isin(MIDS, labels)
        given += is_given
        right += is_given & np.isin(np.arange(8), true)
    assert (right / given)[0] == 1
    assert right / given == pytest.approx(precisions, abs=4 * np.sqrt(0.25 / given.min()))


def test_precisions_that_can_t_be_had_are_refused():
    config = SoundscapeConfig(max_events=3)  # every class in 0.25 of the clips
    assert rates_for_precisions(config, (0.25,) * 8, MIDS) == pytest.approx((1,) * 8)
    for precision in (0.24, 0, 1.1, float("nan")):
        with pytest.raises(
            ValueError, match=r"label precision of 'a': .* 25.0% of the clips.* at least 0\.250"
        ):
            rates_for_precisions(config, (precision,) * 8, MIDS)
    nothing_right = dataclasses.replace(config, missing_rate=1)
    assert rates_for_precisions(nothing_right, (0.5,) * 8, MIDS) == (0,) * 8


@pytest.fixture
def table(tmp_path):
    def write(*rows: str) -> str:
        path = tmp_path / "precision.csv"
        path.write_text("\n".join(["# comment", "label_id,num_rated,num_true", *rows]) + "\n")
        return str(path)

    return write


def test_precisions_are_found_by_mid_or_name(table):
    path = table("/m/1,10,9", "/m/unknown,10,1", "Tick-tock,8,4", '"Waves, surf",4,4')
    assert read_label_precisions(path, CLASSES) == (0.9, 0.5, 1.0)


def test_classes_that_are_not_rated_take_the_mean_of_the_others(table, caplog):
    path = table("/m/1,10,9", "Tick-tock,8,4", "/t/3,0,0")
    assert read_label_precisions(path, CLASSES) == pytest.approx((0.9, 0.5, 0.7))
    assert "rates 2 of 3 classes; Waves, surf take their mean precision, 0.700" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["/m/1,10,11"], "line 3: num_true: expected 0 to num_rated, which is 10, got 11"),
        (["/m/1,10,-1"], "line 3: num_true: expected 0 to num_rated, which is 10, got -1"),
        (["/m/1,ten,9"], "line 3: num_rated: expected a whole number, got 'ten'"),
        (["/m/1,10,9", "Bark,10,9"], "line 4: 'Bark' was there before, at .*, line 3"),
        (
            ["/m/9,10,9"],
            r"label_id: expected mids or display names of the 3 classes \(Bark, "
            ".*none of them is rated",
        ),
        (["/m/1,0,0"], "none of them is rated there"),
        ([], "none of them is rated there"),
    ],
)
def test_bad_tables(table, rows, message):
    with pytest.raises(ValueError, match=message):
        read_label_precisions(table(*rows), CLASSES)
