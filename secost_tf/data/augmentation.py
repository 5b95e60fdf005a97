"""Augmentation of training batches: mixup and SpecAugment, off by default.

Everything is a function of the batch and a seed, int32 [2], so that a run that was stopped
continues with the same batches. Batches are as `TrainingData` makes them: inputs {log_mel [batch,
frames, mel_bins], num_frames [batch]} and targets {labels [batch, classes], teacher_scores [batch,
classes]}.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from secost_tf.runs import TrainConfig
from tfrecord_tools.shards import LOG_MEL, NUM_FRAMES, DatasetInfo

Inputs = dict[str, tf.Tensor]

Targets = dict[str, tf.Tensor]

Augment = Callable[[Inputs, Targets, tf.Tensor], tuple[Inputs, Targets]]


def make_augmentation(train: TrainConfig, info: DatasetInfo) -> Augment | None:
    """Make a function (inputs, targets, seed) -> (inputs, targets) of all augmentation asked for.

    Args:
        train: how a stage is trained.
        info: of the training split; what is masked is set to its mean, and silence is that of its
            log-mel.

    Returns:
        The function; None if no augmentation is asked for.

    Raises:
        ValueError: if time warping is asked for where TensorFlow Addons is missing.
    """
    steps: list[Augment] = []
    partial = functools.partial
    if train.mixup_alpha:
        least_power = info.log_mel.log_offset
        steps.append(partial(mixup, alpha=train.mixup_alpha, least_power=least_power))
    if train.time_warp_frames:
        _require_tensorflow_addons()
        steps.append(partial(_on_log_mel, time_warp, most_frames=train.time_warp_frames))
    for count, widest, mask in (
        (train.time_masks, train.time_mask_frames, mask_time),
        (train.frequency_masks, train.frequency_mask_bins, mask_frequency),
    ):
        if count:
            steps.append(partial(_on_log_mel, mask, count=count, widest=widest, fill=info.mean))

    def augment(inputs: Inputs, targets: Targets, seed: tf.Tensor) -> tuple[Inputs, Targets]:
        for index, step in enumerate(steps):
            own_seed = tf.random.experimental.stateless_fold_in(seed, index)
            inputs, targets = step(inputs, targets, own_seed)
        return inputs, targets

    return augment if steps else None


def _on_log_mel(function, inputs: Inputs, targets: Targets, seed: tf.Tensor, **options):
    log_mel = function(inputs[LOG_MEL], inputs[NUM_FRAMES], seed, **options)
    return {**inputs, LOG_MEL: log_mel}, targets


def mixup(
    inputs: Inputs, targets: Targets, seed: tf.Tensor, alpha: float, least_power: float = 1e-6
) -> tuple[Inputs, Targets]:
    """Mix each clip with another of the batch: weight * clip + (1 - weight) * partner.

    The weight is drawn from Beta(alpha, alpha). Sound is mixed in power, as sounds mix; a clip that
    has ended is silent, and the mixture is as long as the longer of the two. Labels and teacher
    scores are mixed with the same weight.

    Source: Zhang et al., "mixup", ICLR 2018.
    """
    log_mel, num_frames = inputs[LOG_MEL], inputs[NUM_FRAMES]
    batch, frames = tf.shape(log_mel)[0], tf.shape(log_mel)[1]
    partner_seed, weight_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    partner = tf.random.experimental.stateless_shuffle(tf.range(batch), partner_seed)
    gamma = tf.random.stateless_gamma([batch, 2], weight_seed, alpha)
    # Very small alphas make both zero: then it is one or the other, here the clip itself.
    weight = tf.where(tf.reduce_sum(gamma, 1) > 0, gamma[:, 0] / tf.reduce_sum(gamma, 1), 1.0)
    weight = tf.where(partner == tf.range(batch), 1.0, weight)
    power = tf.exp(log_mel) * tf.sequence_mask(num_frames, frames, tf.float32)[:, :, None]
    mixed = weight[:, None, None] * power + (1 - weight)[:, None, None] * tf.gather(power, partner)
    longest = tf.maximum(num_frames, tf.gather(num_frames, partner))
    # A partner of weight zero adds nothing but its frames: they hold the power of digital silence,
    # not none.
    heard = tf.sequence_mask(longest, frames)[:, :, None]
    mixed = tf.where(heard, tf.math.log(tf.maximum(mixed, least_power)), 0.0)
    targets = {
        name: weight[:, None] * values + (1 - weight)[:, None] * tf.gather(values, partner)
        for name, values in targets.items()
    }
    return {**inputs, LOG_MEL: mixed, NUM_FRAMES: longest}, targets


def mask_time(
    log_mel: tf.Tensor,
    num_frames: tf.Tensor,
    seed: tf.Tensor,
    count: int,
    widest: int,
    fill: Sequence[float],
) -> tf.Tensor:
    """Set `count` stretches of each clip, of 0 to `widest` frames, to `fill`.

    Source: SpecAugment, Park et al. 2019.
    """
    masked = _random_spans(tf.shape(log_mel)[1], num_frames, seed, count, widest)
    return tf.where(masked[:, :, None], tf.constant(fill, log_mel.dtype), log_mel)


def mask_frequency(
    log_mel: tf.Tensor,
    num_frames: tf.Tensor,
    seed: tf.Tensor,
    count: int,
    widest: int,
    fill: Sequence[float],
) -> tf.Tensor:
    """Set `count` bands of each clip, of 0 to `widest` mel bins, to `fill`, up to its end."""
    frames, bins = tf.shape(log_mel)[1], log_mel.shape[2]
    masked = _random_spans(bins, tf.fill(tf.shape(num_frames), bins), seed, count, widest)
    masked = masked[:, None, :] & tf.sequence_mask(num_frames, frames)[:, :, None]
    return tf.where(masked, tf.constant(fill, log_mel.dtype), log_mel)


def _random_spans(size, lengths: tf.Tensor, seed: tf.Tensor, count: int, widest: int) -> tf.Tensor:
    """Draw `count` spans within each of `lengths` [batch], of widths uniform in 0 to `widest`.

    Returns:
        bool [batch, size], true within a span.
    """
    shape, lengths = [tf.shape(lengths)[0], count], lengths[:, None]
    width_seed, start_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    width = tf.random.stateless_uniform(shape, width_seed, 0, widest + 1, tf.int32)
    width = tf.minimum(width, lengths)
    room = tf.cast(lengths - width + 1, tf.float32)
    start = tf.cast(tf.random.stateless_uniform(shape, start_seed) * room, tf.int32)
    place = tf.range(size)[None, None, :]
    inside = (place >= start[:, :, None]) & (place < (start + width)[:, :, None])
    return tf.reduce_any(inside, axis=1)


def _require_tensorflow_addons() -> None:
    """Raise `ValueError` if TensorFlow Addons is missing; name the stack that has it."""
    try:
        import tensorflow_addons  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "time_warp_frames: needs TensorFlow Addons, which exists for Python 3.10 and 3.11 "
            "(TensorFlow 2.15) on Linux x86_64 only; use that stack, or leave it at 0"
        ) from error


def time_warp(
    log_mel: tf.Tensor, num_frames: tf.Tensor, seed: tf.Tensor, most_frames: int
) -> tf.Tensor:
    """Move a random place of each clip by up to `most_frames` frames; stretch what lies beside it.

    Source: SpecAugment, Park et al. 2019.
    """
    import tensorflow_addons as tfa

    batch, frames, bins = tf.shape(log_mel)[0], tf.shape(log_mel)[1], log_mel.shape[2]
    from_seed, by_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    length = tf.cast(num_frames, tf.float32)
    most = tf.minimum(float(most_frames), length / 4)
    place = most + tf.random.stateless_uniform([batch], from_seed) * (length - 2 * most)
    shift = (2 * tf.random.stateless_uniform([batch], by_seed) - 1) * most
    # Control points (frame, bin): the place itself at three heights, and the clip's beginning and
    # end, which stay.
    heights = tf.constant([0.0, (bins - 1) / 2, bins - 1.0])

    def points(at: tf.Tensor) -> tf.Tensor:  # [batch, 9, 2]
        columns = tf.stack([tf.zeros_like(length), at, length - 1], axis=1)
        rows = tf.tile(heights[None], [batch, 3])
        return tf.stack([tf.repeat(columns, 3, axis=1), rows], axis=-1)

    before, after = points(place), points(place + shift)
    warped, _ = tfa.image.sparse_image_warp(log_mel[..., None], before, after)
    heard = tf.sequence_mask(num_frames, frames)[:, :, None]
    return tf.where(heard, tf.ensure_shape(warped[..., 0], log_mel.shape), log_mel)
