"""Statistics of each augmentation, and that each is a function of its seed."""

import importlib.util
import types

import numpy as np
import pytest
import tensorflow as tf

from secost_tf.data.augmentation import (
    make_augmentation,
    mask_frequency,
    mask_time,
    mixup,
    time_warp,
)
from secost_tf.runs.settings import TrainConfig
from tfrecord_tools.log_mel import LogMelConfig

CLIPS, FRAMES, BINS = 64, 40, 16
MEAN = tuple(np.linspace(-6, -2, BINS))
SEED = tf.constant([3, 4])
INFO = types.SimpleNamespace(
    mean=MEAN, log_mel=LogMelConfig(mel_bins=BINS)
)  # all that is read of a DatasetInfo


@pytest.fixture
def batch():
    """Inputs and targets of clips of 20 to 40 frames; zeros behind their ends."""
    rng = np.random.default_rng(0)
    num_frames = rng.integers(20, FRAMES + 1, CLIPS).astype(np.int32)
    log_mel = rng.normal(-4, 2, (CLIPS, FRAMES, BINS)).astype(np.float32)
    log_mel[np.arange(FRAMES)[None] >= num_frames[:, None]] = 0.0
    labels = (rng.random((CLIPS, 5)) < 0.4).astype(np.float32)
    inputs = {"log_mel": tf.constant(log_mel), "num_frames": tf.constant(num_frames)}
    return inputs, {
        "labels": tf.constant(labels),
        "teacher_scores": tf.constant(0.1 + 0.8 * labels),
    }


def heard(num_frames) -> np.ndarray:
    return np.arange(FRAMES)[None] < np.asarray(num_frames)[:, None]


# === mixup ===


def mixing_weights(batch, alpha: float, seed) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of each clip itself, and its partner, read off one-hot targets."""
    inputs, _ = batch
    identity = tf.eye(CLIPS)
    _, targets = mixup(inputs, {"labels": identity}, tf.constant(seed), alpha)
    mixed = targets["labels"].numpy()
    weight = np.diag(mixed)
    partner = np.argmax(mixed - np.diag(weight), axis=1)
    partner[weight == 1.0] = np.flatnonzero(weight == 1.0)
    return weight, partner


def test_mixup_mixes_labels_and_teacher_scores_with_one_weight(batch):
    inputs, targets = batch
    _, mixed = mixup(inputs, targets, SEED, 0.5)
    np.testing.assert_allclose(
        mixed["teacher_scores"], 0.1 + 0.8 * mixed["labels"].numpy(), atol=1e-6
    )
    weight, partner = mixing_weights(batch, 0.5, [3, 4])
    labels = targets["labels"].numpy()
    expected = weight[:, None] * labels + (1 - weight)[:, None] * labels[partner]
    np.testing.assert_allclose(mixed["labels"], expected, atol=1e-6)


def test_mixup_mixes_power_and_the_longer_clip_is_heard_to_its_end(batch):
    inputs, targets = batch
    mixed, _ = mixup(inputs, targets, SEED, 0.5)
    weight, partner = mixing_weights(batch, 0.5, [3, 4])
    num_frames = inputs["num_frames"].numpy()
    power = np.exp(inputs["log_mel"].numpy()) * heard(num_frames)[:, :, None]
    expected = weight[:, None, None] * power + (1 - weight)[:, None, None] * power[partner]
    np.testing.assert_array_equal(mixed["num_frames"], np.maximum(num_frames, num_frames[partner]))
    inside = heard(mixed["num_frames"])
    np.testing.assert_allclose(
        mixed["log_mel"].numpy()[inside], np.log(np.maximum(expected, 1e-6))[inside], atol=1e-4
    )
    assert (mixed["log_mel"].numpy()[~inside] == 0).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_weights_are_beta(batch, alpha):
    weights = np.concatenate([mixing_weights(batch, alpha, [seed, 0])[0] for seed in range(40)])
    weights = weights[weights < 1.0]  # clips whose partner is themselves are not mixed
    assert weights.mean() == pytest.approx(0.5, abs=0.03)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_every_clip_is_a_partner_once(batch):
    _, partner = mixing_weights(batch, 1.0, [0, 0])
    assert sorted(partner) == list(range(CLIPS))


# === Masks ===


def masked(batch, function, count: int, widest: int, seed=SEED) -> np.ndarray:
    """Return true where the mask changed something: bool [clips, frames, bins]."""
    inputs, _ = batch
    changed = function(
        inputs["log_mel"], inputs["num_frames"], seed, count=count, widest=widest, fill=MEAN
    )
    mask = changed.numpy() != inputs["log_mel"].numpy()
    np.testing.assert_allclose(
        changed.numpy()[mask], np.broadcast_to(np.float32(MEAN), mask.shape)[mask]
    )
    return mask


def test_time_masks_have_the_promised_sizes(batch):
    widths = []
    for seed in range(30):
        mask = masked(batch, mask_time, 1, 8, tf.constant([seed, 0]))
        columns = mask.any(axis=2)
        assert (mask == columns[:, :, None]).all()  # all bins
        assert not columns[~heard(batch[0]["num_frames"])].any()  # within the clip
        edges = np.abs(np.diff(np.pad(columns, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1)
        assert set(edges) <= {0, 2}  # one stretch
        widths += columns.sum(axis=1).tolist()
    counts = np.bincount(widths, minlength=9) / len(widths)
    assert len(counts) == 9
    np.testing.assert_allclose(counts, 1 / 9, atol=0.03)


def test_time_masks_lie_anywhere(batch):
    columns = np.concatenate(
        [masked(batch, mask_time, 1, 8, tf.constant([seed, 1])).any(axis=2) for seed in range(40)]
    )
    inside = heard(np.full(len(columns), 20))
    share = columns[inside].reshape(-1, 20).mean(axis=0)
    assert share[2:].min() > 0.06 and share[0] > 0.01


def test_frequency_masks_have_the_promised_sizes(batch):
    widths = []
    for seed in range(20):
        mask = masked(batch, mask_frequency, 1, 5, tf.constant([seed, 0]))
        assert not mask[~heard(batch[0]["num_frames"])].any()
        widths += mask[:, 0].sum(axis=1).tolist()
    counts = np.bincount(widths, minlength=6) / len(widths)
    assert len(counts) == 6
    np.testing.assert_allclose(counts, 1 / 6, atol=0.04)


def test_several_masks(batch):
    single, triple = (
        masked(batch, mask_time, count, 5).any(axis=2).sum(axis=1) for count in (1, 3)
    )
    assert triple.mean() > 2 * single.mean() and triple.max() <= 15


# === Time warp ===


def test_time_warp_moves_what_is_heard(batch):
    if importlib.util.find_spec("tensorflow_addons") is None:
        with pytest.raises(ValueError, match="time_warp_frames: needs TensorFlow Addons"):
            make_augmentation(TrainConfig(time_warp_frames=5), INFO)
        return
    ramp = tf.tile(tf.range(FRAMES, dtype=tf.float32)[None, :, None], [8, 1, BINS])
    num_frames = tf.fill([8], FRAMES)
    warped = time_warp(ramp, num_frames, SEED, 5).numpy()
    moved = np.abs(warped - ramp.numpy()).max(axis=(1, 2))
    assert (moved <= 5.5).all() and moved.max() > 1
    np.testing.assert_allclose(warped[:, 0], 0, atol=0.1)
    np.testing.assert_allclose(warped[:, -1], FRAMES - 1, atol=0.1)
    assert (np.diff(warped[:, :, BINS // 2], axis=1) > -0.1).all()  # time goes forward


# === Together ===


def test_nothing_asked_for_is_nothing_done():
    assert make_augmentation(TrainConfig(), INFO) is None


def test_the_seed_decides(batch):
    train = TrainConfig(mixup_alpha=0.5, time_masks=2, frequency_masks=2)
    augment = tf.function(make_augmentation(train, INFO))
    first, again, other = (augment(*batch, tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    tf.nest.map_structure(np.testing.assert_array_equal, first, again)
    assert np.abs(first[0]["log_mel"] - other[0]["log_mel"]).max() > 0
    assert np.isfinite(first[0]["log_mel"]).all()
