"""The layer table, the layers against float64, and what a clip's scores must not depend on."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import TINY

from secost_tf.models.config import POOLING_HEADS, WelsNetConfig
from secost_tf.models.network import wels_net
from secost_tf.models.pooling import HEADS
from secost_tf.training.devices import precision_policy, set_seed

NARROW = WelsNetConfig(num_classes=5, width=1 / 32)  # the table, with 2 ... 64 channels
LENGTHS = (1, 7, 8, 9, 24, 25, 40, 100)


def network(config, seed=0):
    """A network whose weights, biases and statistics all differ from their initial values."""
    net = wels_net(config)
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        scale = 0.5 if any("kernel" in weight.name for weight in layer.weights) else 0.2
        for weight in layer.weights:
            start = (
                1.0
                if weight.name.split("/")[-1].startswith(("gamma", "moving_var", "variance"))
                else 0.0
            )
            noise = rng.uniform(-scale, scale, tuple(weight.shape))
            weight.assign(noise + start)
    return net


def run(net, log_mels, num_frames):
    inputs = {
        "log_mel": tf.constant(log_mels, tf.float32),
        "num_frames": tf.constant(num_frames, tf.int32),
    }
    return {name: output.numpy() for name, output in net(inputs, training=False).items()}


def clip(frames, config=TINY, seed=0):
    return (
        np.random.default_rng([seed, frames])
        .normal(0, 2, (frames, config.mel_bins))
        .astype(np.float32)
    )


# === The layer table ===


@pytest.mark.parametrize("frames", [1024, 998])
def test_each_block_has_the_shape_of_the_table(frames):
    net = wels_net(NARROW)
    names = ["b1_pool", "b2_pool", "b3_pool", "b4_pool", "b5_relu", "b6_relu", "b7_relu", "b8"]
    probe = keras.Model(
        net.inputs, [net.get_layer(name).output for name in names] + [net.output["logits"]]
    )
    log_mels = tf.zeros([2, frames, 64])
    values = {"log_mel": log_mels, "num_frames": tf.fill([2], frames)}
    shapes = [
        tuple(x.shape) for x in probe([values[tensor.name.split(":")[0]] for tensor in net.inputs])
    ]
    assert shapes == [
        (2, 256, 16, 2),
        (2, 128, 8, 4),
        (2, 64, 4, 8),
        (2, 32, 2, 16),
        (2, 30, 1, 64),
        (2, 30, 1, 32),
        (2, 30, 1, 32),
        (2, 30, 1, 5),
        (2, 5),
    ]


def test_outputs():
    outputs = run(wels_net(NARROW), np.zeros((2, 1024, 64)), [1024, 998])
    assert {name: (x.shape, x.dtype.name) for name, x in outputs.items()} == {
        "logits": ((2, 5), "float32"),
        "segment_logits": ((2, 30, 5), "float32"),
    }


def test_weights_at_full_width():
    net = wels_net(WelsNetConfig(num_classes=527))
    channels = {
        name: net.get_layer(name).output.shape[-1]
        for name in ("b1_pool", "b4_pool", "b5_relu", "b7_relu")
    }
    assert channels == {"b1_pool": 64, "b4_pool": 512, "b5_relu": 2048, "b7_relu": 1024}
    convolutions = [
        9 * (1 * 64 + 64 * 64),
        9 * (64 * 128 + 128 * 128),
        9 * (128 * 256 + 256 * 256),
        9 * (256 * 512 + 512 * 512),
        3 * 2 * 512 * 2048,
        2048 * 1024,
        1024 * 1024,
        1024 * 527 + 527,
    ]
    batch_norms = 2 * (2 * (64 + 128 + 256 + 512) + 2048 + 1024 + 1024)
    assert sum(convolutions) + batch_norms == 14_671_695
    assert sum(np.prod(weight.shape) for weight in net.trainable_variables) == 14_671_695


def test_names_and_shapes_of_the_weights():
    """Pinned: weights saved on one stack load on the other, which goes by this order."""
    weights = [
        (f"{layer.name}/{weight.name.split('/')[-1].split(':')[0]}", tuple(weight.shape))
        for layer in wels_net(dataclasses.replace(TINY, pooling="auto")).layers
        for weight in layer.weights
    ]
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    assert weights == [
        ("standardize/mean", (8,)),
        ("standardize/variance", (8,)),
        ("b1_1/kernel", (3, 3, 1, 4)),
        *((f"b1_1/{name}", (4,)) for name in norm),
        ("b1_2_conv/kernel", (3, 3, 4, 4)),
        *((f"b1_2_norm/{name}", (4,)) for name in norm),
        ("b2_1_conv/kernel", (3, 3, 4, 5)),
        *((f"b2_1_norm/{name}", (5,)) for name in norm),
        ("b2_2_conv/kernel", (3, 3, 5, 5)),
        *((f"b2_2_norm/{name}", (5,)) for name in norm),
        ("b3_conv/kernel", (3, 1, 5, 8)),
        *((f"b3_norm/{name}", (8,)) for name in norm),
        ("b4_conv/kernel", (1, 1, 8, 6)),
        *((f"b4_norm/{name}", (6,)) for name in norm),
        ("b5/kernel", (1, 1, 6, 3)),
        ("b5/bias", (3,)),
        ("pooling/softness", (3,)),
    ]


@pytest.mark.parametrize("pooling", list(HEADS))
def test_every_head_saves_and_loads(pooling, tmp_path):
    config = dataclasses.replace(
        TINY, pooling=pooling, block_channels=(4,), block_pools=(8,), block_convolutions=1
    )
    net = network(config)
    net.get_layer("standardize").set_statistics(np.arange(8), 1 + np.arange(8))
    batch = np.stack([clip(40), clip(40, seed=1)]), [40, 30]
    expected = run(net, *batch)
    weights, whole = str(tmp_path / "net.weights.h5"), str(tmp_path / "net.keras")
    net.save_weights(weights)
    net.save(whole)
    fresh = wels_net(config)
    assert np.any(run(fresh, *batch)["logits"] != expected["logits"])
    fresh.load_weights(weights)
    for restored in (fresh, keras.models.load_model(whole)):
        for name, values in run(restored, *batch).items():
            np.testing.assert_array_equal(values, expected[name])


def test_the_configuration_knows_every_head():
    assert tuple(HEADS) == POOLING_HEADS


# === What a clip's scores depend on ===


@pytest.mark.parametrize("pooling", list(HEADS))
def test_scores_depend_on_neither_padding_nor_batch(pooling):
    config = dataclasses.replace(TINY, pooling=pooling)
    net = network(config)
    garbage = [1e6, np.nan, np.inf, -1e6]
    batch = np.stack(
        [
            np.pad(clip(frames), ((0, 120 - frames), (0, 0)), constant_values=garbage[index % 4])
            for index, frames in enumerate(LENGTHS)
        ]
    )
    together = run(net, batch, LENGTHS)
    for index, frames in enumerate(LENGTHS):
        alone = run(net, clip(frames)[None], [frames])
        segments = config.num_segments(frames)
        assert alone["segment_logits"].shape == (1, segments, 3)
        np.testing.assert_allclose(
            together["logits"][index], alone["logits"][0], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            together["segment_logits"][index, :segments],
            alone["segment_logits"][0],
            rtol=1e-5,
            atol=1e-5,
        )
    assert np.unique(together["logits"].round(3), axis=0).shape == (8, 3)  # the clips do differ


def test_scores_depend_on_every_real_frame():
    frames = 40
    changed = np.repeat(clip(frames)[None], frames + 1, axis=0)
    changed[np.arange(frames), np.arange(frames)] += (
        3.0  # another frame in each clip, none in the last
    )
    logits = run(network(TINY), changed, np.full(frames + 1, frames))["logits"]
    assert np.abs(logits[:-1] - logits[-1]).max(axis=1).min() > 1e-4


def test_statistics_have_the_effect_of_standardised_input(tmp_path):
    mean, variance = np.linspace(-5, 2, 8), np.linspace(0.5, 6, 8)
    net = wels_net(TINY)
    standardised = run(net, (clip(40)[None] - mean) / np.sqrt(variance), [40])
    net.get_layer("standardize").set_statistics(mean, variance)
    np.testing.assert_allclose(
        run(net, clip(40)[None], [40])["logits"], standardised["logits"], atol=1e-4
    )
    net.save_weights(str(tmp_path / "net.weights.h5"))
    fresh = wels_net(TINY)
    fresh.load_weights(str(tmp_path / "net.weights.h5"))
    np.testing.assert_allclose(fresh.get_layer("standardize").mean, mean, rtol=1e-6)
    np.testing.assert_allclose(fresh.get_layer("standardize").variance, variance, rtol=1e-6)


# === Precision and seeds ===


def test_mixed_bfloat16():
    set_seed(0)
    full = wels_net(TINY)
    with precision_policy("mixed_bfloat16"):
        mixed = wels_net(TINY)
    layers = [mixed.get_layer(name) for name in ("b1_1", "b1_2_conv", "b3_conv")]
    assert {str(getattr(layer.output.dtype, "name", layer.output.dtype)) for layer in layers} == {
        "bfloat16"
    }
    assert {str(getattr(weight.dtype, "name", weight.dtype)) for weight in mixed.weights} == {
        "float32"
    }
    mixed.set_weights(full.get_weights())
    batch = np.stack([clip(40), clip(40, seed=1)]), [40, 30]
    actual, expected = run(mixed, *batch), run(full, *batch)
    for name, values in expected.items():
        assert actual[name].dtype == np.float32
        np.testing.assert_allclose(actual[name], values, rtol=0.05, atol=0.05)
        assert np.any(actual[name] != values)
