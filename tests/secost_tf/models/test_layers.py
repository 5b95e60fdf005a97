"""The layers against Keras's own, against float64, and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models import fast_layers
from secost_tf.models.fast_layers import BatchNorm, Convolution, ConvolutionNorm
from secost_tf.models.layers import SegmentMask, Standardize, ZeroPadding
from secost_tf.training.devices import precision_policy


@pytest.mark.parametrize("training", [False, True])
def test_zero_padding_zeroes_behind_each_end_at_inference_only(training):
    features = np.ones((3, 6, 2, 2), np.float32)  # 24 frames at stride 4
    kept = ZeroPadding(stride=4, multiple=8)(
        features, tf.constant([1, 8, 17]), training=training
    ).numpy()
    expected = [6, 6, 6] if training else [2, 2, 6]  # of 8, 8 and 24 frames
    np.testing.assert_array_equal(kept[:, :, 1, 1].sum(axis=1), expected)
    np.testing.assert_array_equal(kept[:, 0], np.ones((3, 2, 2)))


def test_segment_mask():
    mask = SegmentMask(stride=8, kernel=3)(tf.zeros([5, 4, 2]), tf.constant([1, 24, 25, 33, 48]))
    np.testing.assert_array_equal(mask.numpy().sum(axis=1), [1, 1, 2, 3, 4])
    np.testing.assert_array_equal(mask[2], [True, True, False, False])


# === Standardize ===


def test_standardize():
    layer = Standardize(multiple=4, minimum=8)
    layer(tf.zeros([1, 1, 2]), tf.constant([1]))
    layer.set_statistics([2.0, -1.0], [4.0, 0.25])
    log_mels = np.array([[[4.0, -1.0], [2.0, 0.0], [9.0, np.nan]]], np.float32)
    actual = layer(log_mels, tf.constant([2])).numpy()
    assert actual.shape == (1, 8, 2, 1)
    np.testing.assert_allclose(actual[0, :2, :, 0], [[1, 0], [0, 2]], atol=1e-5)
    np.testing.assert_array_equal(actual[0, 2:], np.zeros((6, 2, 1)))


@pytest.mark.parametrize(("frames", "padded"), [(1, 8), (8, 8), (9, 12), (12, 12)])
def test_standardize_pads_to_whole_strides(frames, padded):
    layer = Standardize(multiple=4, minimum=8)
    assert layer(tf.zeros([2, frames, 3]), tf.fill([2], frames)).shape == (2, padded, 3, 1)


@pytest.mark.parametrize("batched", [False, True])
def test_standardize_adapts_to_the_frames_of_clips_without_their_padding(batched):
    rng = np.random.default_rng(0)
    log_mels, num_frames = (
        rng.normal(-5, 3, (6, 10, 4)).astype(np.float32),
        np.array([10, 3, 1, 0, 9, 10]),
    )
    own = np.concatenate([clip[:frames] for clip, frames in zip(log_mels, num_frames, strict=True)])
    inputs = {"log_mel": log_mels, "num_frames": num_frames}
    layer = Standardize(multiple=4, minimum=8)
    if batched:
        layer.build((None, None, 4))
        assert not layer.has_statistics()
        layer.adapt(tf.data.Dataset.from_tensor_slices((inputs, {"labels": num_frames})).batch(4))
    else:
        layer.adapt(inputs)
    assert layer.has_statistics()
    np.testing.assert_allclose(layer.mean, own.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(layer.variance, own.var(axis=0, dtype=np.float64), rtol=1e-6)


def test_standardize_adapts_to_nothing_else():
    layer = Standardize(multiple=4, minimum=8)
    with pytest.raises(ValueError, match=r"data: expected a dict of .* got ndarray"):
        layer.adapt(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="data: expected clips with frames"):
        layer.adapt({"log_mel": np.ones((2, 3, 4)), "num_frames": [0, 0]})


# === BatchNorm ===

GAMMA, BETA = np.array([1.5, 0.5, -1.0]), np.array([0.1, -0.2, 0.3])
MOVING_MEAN, MOVING_VARIANCE = np.array([0.5, -1.0, 2.0]), np.array([2.0, 0.5, 1.0])


def batch_norm(**options):
    layer = BatchNorm(**{"momentum": 0.8, "epsilon": 0.01, **options})
    layer.build((None, 3))
    layer.set_weights([GAMMA, BETA, MOVING_MEAN, MOVING_VARIANCE])
    return layer


def normalised(x, mean, variance):
    return GAMMA * (x - mean) / np.sqrt(variance + 0.01) + BETA


each_shape = pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 3, 4, 3)])


@each_shape
def test_batch_norm_in_training(shape):
    x = np.random.default_rng(0).normal(3, 2, shape)
    axes = tuple(range(len(shape) - 1))
    mean, variance = x.mean(axes), x.var(axes)  # biased
    layer = batch_norm()
    actual = layer(tf.constant(x, tf.float32), training=True)
    assert tuple(actual.shape) == shape
    np.testing.assert_allclose(actual, normalised(x, mean, variance), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.8 * MOVING_MEAN + 0.2 * mean, rtol=1e-5)
    np.testing.assert_allclose(
        layer.moving_variance, 0.8 * MOVING_VARIANCE + 0.2 * variance, rtol=1e-5
    )


@each_shape
def test_batch_norm_at_inference(shape):
    x = np.random.default_rng(0).normal(3, 2, shape)
    layer = batch_norm()
    np.testing.assert_allclose(
        layer(tf.constant(x, tf.float32), training=False),
        normalised(x, MOVING_MEAN, MOVING_VARIANCE),
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_array_equal(layer.moving_mean, MOVING_MEAN)
    np.testing.assert_array_equal(layer.moving_variance, MOVING_VARIANCE)


def test_batch_norm_gradients():
    rng = np.random.default_rng(0)
    x, r = rng.normal(0, 1, (2, 3, 4, 3)), rng.normal(0, 1, (2, 3, 4, 3))
    layer, tensors = batch_norm(), [tf.constant(x, tf.float32)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = tf.reduce_sum(layer(tensors[0], training=True) * r.astype(np.float32))
    actual = tape.gradient(loss, [*tensors, *layer.trainable_variables])
    # By hand: x̂ normalised, n rows a channel; the statistics depend on x too.
    n, deviation = 24, np.sqrt(x.var((0, 1, 2)) + 0.01)
    x_hat = (x - x.mean((0, 1, 2))) / deviation
    d_gamma, d_beta = (r * x_hat).sum((0, 1, 2)), r.sum((0, 1, 2))
    d_x = GAMMA / deviation * (r - d_beta / n - x_hat * d_gamma / n)
    for value, expected in zip(actual, (d_x, d_gamma, d_beta), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_keeps_the_type_of_its_input(training):
    x = tf.random.stateless_normal([4, 2, 2, 3], [0, 1])
    actual = batch_norm()(tf.cast(x, tf.bfloat16), training=training)
    assert actual.dtype == tf.bfloat16
    np.testing.assert_allclose(
        tf.cast(actual, tf.float32), batch_norm()(x, training=training), atol=0.05
    )


# === ConvolutionNorm ===


def convolution_norm(channels=3):
    """With weights that differ from their initial values; and a convolution and a BatchNorm with
    the same.
    """
    rng = np.random.default_rng(0)
    folded = ConvolutionNorm(channels, 0.8, 0.01)
    folded.build((None, None, 6, 1))
    weights = [
        rng.normal(size=(3, 3, 1, channels)),
        *(rng.uniform(0.5, 2, channels) for _ in range(4)),
    ]
    folded.set_weights(weights)
    apart = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False), BatchNorm(0.8, 0.01)
    for layer, shape, own in zip(
        apart, [(None, 7, 6, 1), (None, 7, 6, channels)], [weights[:1], weights[1:]], strict=True
    ):
        layer.build(shape)
        layer.set_weights(own)
    return folded, apart


@pytest.mark.parametrize("training", [False, True])
def test_convolution_norm_is_a_convolution_and_its_batch_norm(training):
    folded, (convolution, norm) = convolution_norm()
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(1, 2, (4, 7, 6, 1)), tf.float32)
    r = rng.normal(size=(4, 7, 6, 3)).astype(np.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        actual, expected = folded(x, training=training), norm(convolution(x), training=training)
        losses = [tf.reduce_sum(values * r) for values in (actual, expected)]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    mine = tape.gradient(losses[0], [x, *folded.trainable_variables])
    theirs = tape.gradient(
        losses[1], [x, *convolution.trainable_variables, *norm.trainable_variables]
    )
    for value, wanted in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-3)
    for value, wanted in (
        (folded.moving_mean, norm.moving_mean),
        (folded.moving_variance, norm.moving_variance),
    ):
        np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_the_sums_over_patches():
    x = np.random.default_rng(0).normal(size=(3, 7, 6)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    patches = np.stack([[padded[:, i : i + 7, j : j + 6] for j in range(3)] for i in range(3)])
    count, sums, products = fast_layers._patch_sums(tf.constant(x))
    assert float(count) == x.size
    np.testing.assert_allclose(sums, patches.sum((2, 3, 4)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        products, np.einsum("ijabc,klabc->ijkl", patches, patches), rtol=1e-4, atol=1e-4
    )


def test_convolution_norm_computes_in_the_type_of_the_policy():
    full, _ = convolution_norm()
    x = tf.random.stateless_normal([2, 7, 6, 1], [0, 1])
    with precision_policy("mixed_bfloat16"):
        mixed = ConvolutionNorm(3, 0.8, 0.01)
    mixed.build((None, None, 6, 1))
    mixed.set_weights(full.get_weights())
    actual = mixed(x, training=True)
    assert actual.dtype == tf.bfloat16
    assert {
        tf.as_dtype(getattr(weight.dtype, "name", weight.dtype)) for weight in mixed.weights
    } == {tf.float32}
    np.testing.assert_allclose(tf.cast(actual, tf.float32), full(x, training=True), atol=0.05)


def test_convolution_norm_takes_one_channel():
    with pytest.raises(ValueError, match=r"one channel, got inputs of shape \(None, 7, 6, 2\)"):
        ConvolutionNorm(3).build((None, 7, 6, 2))


# === Convolution ===


@pytest.mark.parametrize(
    ("kernel", "padding", "options"),
    [
        ((3, 2), "valid", {"use_bias": False}),  # as high as its input
        ((3, 2), "valid", {"activation": "relu"}),
        ((1, 2), "valid", {}),
        ((3, 3), "same", {}),
        ((2, 2), "same", {}),
        ((2, 1), "valid", {}),
    ],
)
@pytest.mark.parametrize(("is_slow", "training"), [(False, True), (True, True), (True, False)])
def test_convolution_is_that_of_keras(monkeypatch, kernel, padding, options, is_slow, training):
    monkeypatch.setattr(fast_layers, "_is_oneDNN_slow", lambda kernel: is_slow)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(3, 7, 2, 4)), tf.float32)
    pair = [
        kind(5, kernel, padding=padding, **options) for kind in (Convolution, keras.layers.Conv2D)
    ]
    for layer in pair:
        layer.build(x.shape)
    pair[1].set_weights([rng.normal(size=weight.shape) for weight in pair[0].get_weights()])
    pair[0].set_weights(pair[1].get_weights())
    r = rng.normal(size=pair[1](x).shape).astype(np.float32)
    results = []
    for layer in pair:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training) if isinstance(layer, Convolution) else layer(x)
            loss = tf.reduce_sum(y * r)
        results.append([y, *tape.gradient(loss, [x, *layer.trainable_variables])])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_custom_gradients_are_for_training_alone(monkeypatch, training):
    monkeypatch.setattr(fast_layers, "_is_oneDNN_slow", lambda kernel: True)
    layer = Convolution(5, 3, padding="same")
    graph = tf.function(lambda x: layer(x, training=training)).get_concrete_function(
        tf.TensorSpec((None, 7, 2, 4))
    )
    customs = [
        operation
        for operation in graph.graph.get_operations()
        if "_gradient_op_type" in operation.node_def.attr
    ]
    assert bool(customs) is training


@pytest.mark.parametrize(
    ("channels", "dtype", "flags", "expected"),
    [
        ((256, 256), "bfloat16", {"avx512f"}, True),
        ((256, 256), "float32", {"avx512f"}, False),
        ((256, 256), "float32", {"avx2"}, True),
        ((128, 256), "bfloat16", {"avx2"}, False),
    ],
)
def test_where_matrix_products_are_faster(monkeypatch, channels, dtype, flags, expected):
    monkeypatch.setattr(fast_layers.processor, "processor_flags", lambda: flags)
    assert fast_layers._is_oneDNN_slow(tf.zeros([3, 3, *channels], dtype)) is expected


# === All of them ===


def test_layers_round_trip_through_their_config():
    for layer in (
        BatchNorm(0.7, 0.02, name="norm"),
        ConvolutionNorm(3, 0.7, 0.02, name="first"),
        Convolution(3, 2, name="one"),
        Standardize(4, 8, name="front"),
        ZeroPadding(2, 8, name="zeros"),
        SegmentMask(8, 3, name="mask"),
    ):
        with precision_policy("mixed_bfloat16"):
            restored = type(layer).from_config(layer.get_config())
        assert restored.get_config() == layer.get_config()
        assert restored.name == layer.name
