"""Each head against its formula in probability space, in float64, and against what must not change
it.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models import pooling
from secost_tf.models.pooling import EMPTY_CLIP_LOGIT, HEADS, Pooling

K = 3  # of top_k
SOFTNESS = np.array([0.0, 1.0, 4.0, -2.0], np.float32)


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


# p [segments] of one clip and class, a its softness, v [segments] its attention logits
REFERENCE = {
    "average": lambda p, a, v: p.mean(),
    "max": lambda p, a, v: p.max(),
    "linear_softmax": lambda p, a, v: np.sum(p**2) / np.sum(p),
    "exp_softmax": lambda p, a, v: np.average(p, weights=np.exp(p)),
    "attention": lambda p, a, v: np.average(p, weights=np.exp(v)),
    "auto": lambda p, a, v: np.average(p, weights=np.exp(a * p)),
    "noisy_or": lambda p, a, v: 1 - np.prod(1 - p),
    "top_k": lambda p, a, v: np.sort(p)[-K:].mean(),
}
each_head = pytest.mark.parametrize("head", list(HEADS))


def pool(head, z, mask, attention_logits=None, softness=SOFTNESS):
    if attention_logits is None:
        attention_logits = tf.zeros_like(z)
    options = {
        "attention": {"attention_logits": attention_logits},
        "auto": {"softness": softness},
        "top_k": {"k": K},
    }
    return HEADS[head](z, mask, **options.get(head, {}))


def clips(seed=0, segments=9, scale=3.0):
    """Logits, mask and attention of five clips of 1 ... 9 real segments (scattered) and four
    classes.
    """
    rng = np.random.default_rng(seed)
    z, v = rng.normal(0, scale, (2, 5, segments, 4)).astype(np.float32)
    mask = rng.permuted(np.arange(segments) < np.array([1, 2, 3, 5, 9])[:, None], axis=1)
    return z, mask, v


def gradient(head, z, mask, loss=tf.reduce_sum, **options):
    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = loss(pool(head, z, mask, **options))
    return tape.gradient(value, z).numpy()


def test_every_head_has_a_reference():
    assert list(HEADS) == list(REFERENCE)


@each_head
def test_equals_the_formula_in_probability_space(head):
    z, mask, v = clips()
    p = sigmoid(z)
    expected = [
        [REFERENCE[head](p[b, mask[b], c], SOFTNESS[c], v[b, mask[b], c]) for c in range(4)]
        for b in range(len(z))
    ]
    logits = pool(head, z, mask, v)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(sigmoid(logits), expected, rtol=2e-6)
    np.testing.assert_allclose(
        logits, np.log(expected) - np.log1p(-np.array(expected)), rtol=1e-5, atol=1e-5
    )


@each_head
def test_gradient_equals_finite_differences_of_the_formula(head):
    z, mask, v = clips(seed=1, scale=1.5)
    actual = gradient(head, z, mask, attention_logits=v)
    b, c, step = 3, 2, 1e-5

    def logit(values):
        p = REFERENCE[head](
            sigmoid(values[mask[b]]), SOFTNESS[c], v[b, mask[b], c].astype(np.float64)
        )
        return np.log(p / (1 - p))

    for k in range(z.shape[1]):
        bump = step * (np.arange(z.shape[1]) == k)
        expected = (logit(z[b, :, c] + bump) - logit(z[b, :, c] - bump)) / (2 * step)
        assert actual[b, k, c] == pytest.approx(expected, abs=1e-5)


@each_head
@pytest.mark.parametrize("garbage", [0.0, 1e4, -1e4, np.nan, np.inf])
def test_padding_changes_neither_value_nor_gradient(head, garbage):
    z, _, v = clips()
    all_real = np.ones(z.shape[:2], bool)
    padding = np.full((5, 3, 4), garbage, np.float32)
    padded, padded_v = np.concatenate([z, padding], axis=1), np.concatenate([v, padding], axis=1)
    mask = np.concatenate([all_real, np.zeros((5, 3), bool)], axis=1)
    np.testing.assert_allclose(
        pool(head, padded, mask, padded_v), pool(head, z, all_real, v), rtol=1e-6, atol=1e-6
    )
    expected = gradient(head, z, all_real, attention_logits=v)
    actual = gradient(head, padded, mask, attention_logits=padded_v)
    np.testing.assert_allclose(actual[:, :9], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(actual[:, 9:], 0)


@each_head
def test_order_of_segments_does_not_matter(head):
    z, mask, v = clips()
    order = np.random.default_rng(2).permutation(z.shape[1])
    np.testing.assert_allclose(
        pool(head, z[:, order], mask[:, order], v[:, order]),
        pool(head, z, mask, v),
        rtol=1e-6,
        atol=1e-6,
    )


@each_head
@pytest.mark.parametrize("level", [-40.0, -1.0, 0.0, 2.0, 40.0])
def test_one_segment_or_equal_segments_keep_their_logit(head, level):
    z = np.full((2, 6, 4), level, np.float32)
    mask = np.array([[False, True, False, False, False, False], [True] * 6])
    single, six = pool(head, z, mask, clips()[2][:2, :6])
    np.testing.assert_allclose(single, level, rtol=1e-6, atol=1e-6)
    if head != "noisy_or":
        np.testing.assert_allclose(six, level, rtol=1e-6, atol=1e-6)
    elif level <= -40:
        np.testing.assert_allclose(six, level + np.log(6), rtol=1e-6)


@each_head
@pytest.mark.parametrize(
    "levels", [[-40.0], [40.0], [-40.0] * 6, [40.0] * 6, [40.0, -40.0, -40.0], [-40.0, 40.0, 40.0]]
)
def test_gradients_at_40_are_finite_and_not_zero(head, levels):
    z = np.tile(np.float32([*levels, 7.0, -7.0])[None, :, None], (2, 1, 4))
    mask = np.arange(z.shape[1]) < np.array([[len(levels)], [len(levels)]])
    slopes = gradient(head, z, mask)
    assert np.isfinite(slopes).all()
    real = slopes[:, : len(levels)]
    if head == "max":
        real = real[:, np.array(levels) == max(levels)]
    elif head == "top_k":
        assert (np.count_nonzero(real, axis=1) == min(K, len(levels))).all()
        real = real[real != 0]
    assert np.all(real != 0)
    np.testing.assert_array_equal(slopes[:, len(levels) :], 0)


@each_head
@pytest.mark.parametrize("extreme", [100.0, 1e4])
def test_beyond_float32_probabilities_nothing_is_nan(head, extreme):
    z = np.tile(np.float32([extreme, -extreme, 0.0])[None, :, None], (3, 1, 4))
    mask = np.array([[True, False, False], [False, True, False], [True, True, True]])
    logits = pool(head, z, mask).numpy()
    np.testing.assert_allclose(logits[:2, 0], [extreme, -extreme], rtol=1e-6)
    assert np.isfinite(logits).all()
    assert np.isfinite(gradient(head, z, mask)).all()


@each_head
def test_a_clip_of_probability_1e_12_still_learns(head):
    z = np.full((1, 5, 4), np.log(1e-12), np.float32)
    targets = tf.ones((1, 4))

    def loss(logits):
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits))

    slope = gradient(head, z, np.ones((1, 5), bool), loss).sum(axis=1)
    np.testing.assert_allclose(slope, -1, rtol=1e-5)  # of the loss to all segments together: p − y


@each_head
def test_a_clip_without_segments_is_defined(head):
    z, mask, _ = clips()
    mask[2] = False
    z[2] = 1e4
    logits = pool(head, z, mask).numpy()
    np.testing.assert_array_equal(logits[2], EMPTY_CLIP_LOGIT)
    slopes = gradient(head, z, mask)
    assert np.isfinite(slopes).all()
    np.testing.assert_array_equal(slopes[2], 0)


def test_numbers_worked_by_hand():
    p = np.array([0.2, 0.5, 0.8])
    z = np.log(p / (1 - p)).astype(np.float32)[None, :, None]
    mask, weights = np.ones((1, 3), bool), np.exp(p)
    expected = {
        "average": 0.5,
        "max": 0.8,
        "linear_softmax": (0.04 + 0.25 + 0.64) / 1.5,  # 0.62
        "exp_softmax": (weights * p).sum() / weights.sum(),
        "auto": 0.5,  # softness 0
        "attention": (0.2 + 2 * 0.5 + 5 * 0.8) / 8,  # 0.65
        "noisy_or": 1 - 0.8 * 0.5 * 0.2,  # 0.92
        "top_k": 0.5,  # all three
    }
    v = np.log([1.0, 2.0, 5.0]).astype(np.float32)[None, :, None]
    actual = {head: float(sigmoid(pool(head, z, mask, v, softness=[0.0]))[0, 0]) for head in HEADS}
    assert actual == pytest.approx(expected, rel=1e-6)
    assert float(sigmoid(pooling.top_k(z, mask, k=2))[0, 0]) == pytest.approx(0.65, rel=1e-6)
    assert float(sigmoid(pooling.auto(z, mask, softness=[100.0]))[0, 0]) == pytest.approx(
        0.8, rel=1e-6
    )


def test_noisy_or_is_smooth_where_it_changes_form():
    z = np.linspace(-20, -12, 401, dtype=np.float32)[:, None, None] + np.zeros(
        (1, 3, 1), np.float32
    )
    mask = np.ones((401, 3), bool)
    exact = np.log(np.expm1(3 * np.log1p(np.exp(z[:, 0].astype(np.float64)))))
    np.testing.assert_allclose(pooling.noisy_or(z, mask), exact, rtol=1e-6)
    np.testing.assert_allclose(gradient("noisy_or", z, mask), 1 / 3, rtol=1e-4)


def test_huge_attention_logits_keep_precision():
    z, _, v = clips()
    mask = np.ones(z.shape[:2], bool)
    common = pool("attention", z, mask, np.round(v) + 2**20)  # a common factor of the weights
    np.testing.assert_allclose(
        common, pool("attention", z, mask, np.round(v)), rtol=1e-6, atol=1e-6
    )
    chosen = np.where(np.arange(z.shape[1])[:, None] == 4, 1e6, np.zeros_like(v))
    np.testing.assert_allclose(pool("attention", z, mask, chosen), z[:, 4], rtol=1e-6, atol=1e-6)


# === Layer ===


def functional_model(head, segments=None):
    z = keras.Input((segments, 4), name="segment_logits")
    mask = keras.Input((segments,), dtype="bool", name="segment_mask")
    v = keras.Input((segments, 4), name="attention_logits")
    extra = {"attention_logits": v} if head == "attention" else {}
    clip_logits = Pooling(head, k=K, name="pool")(z, segment_mask=mask, **extra)
    return keras.Model([z, mask, v], clip_logits)


@each_head
def test_layer_in_a_model_equals_the_function_and_survives_saving(head, tmp_path):
    z, mask, v = clips()
    model = functional_model(head)
    softness = np.ones(4, np.float32)
    np.testing.assert_allclose(
        model([z, mask, v]), pool(head, z, mask, v, softness), rtol=1e-6, atol=1e-6
    )
    if head == "auto":
        np.testing.assert_array_equal(model.get_layer("pool").softness, 1)
        softness = SOFTNESS
        model.get_layer("pool").softness.assign(softness)
    expected = pool(head, z, mask, v, softness)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded([z, mask, v]), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        loaded.predict([z, mask, v], verbose=0), expected, rtol=1e-6, atol=1e-6
    )
    assert (loaded.get_layer("pool").head, loaded.get_layer("pool").k) == (head, K)


@each_head
def test_layer_learns_in_fit(head):
    z, mask, v = clips()
    segment_logits, segment_mask, attention = (
        keras.Input(x.shape[1:], dtype=x.dtype.name) for x in (z, mask, v)
    )
    extra = {"attention_logits": keras.layers.Dense(4)(attention)} if head == "attention" else {}
    dense = keras.layers.Dense(4, kernel_initializer="identity")(segment_logits)
    clip_logits = Pooling(head)(dense, segment_mask=segment_mask, **extra)
    model = keras.Model([segment_logits, segment_mask, attention], clip_logits)
    model.compile(keras.optimizers.Adam(0.1), keras.losses.BinaryCrossentropy(from_logits=True))
    labels = np.eye(5, 4, dtype=np.float32)
    before = [np.array(w) for w in model.get_weights()]
    losses = model.fit([z, mask, v], labels, epochs=5, batch_size=5, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(np.any(w != b) for w, b in zip(model.get_weights(), before, strict=True))


@each_head
def test_layer_is_float32_under_mixed_precision(head):
    z, mask, v = clips()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = functional_model(head)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    logits = model([z, mask, v])
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, pool(head, z, mask, v, np.ones(4)), rtol=1e-6, atol=1e-6)
    assert all(w.dtype in ("float32", tf.float32) for w in model.weights)
    segment_logits, attention_logits = (tf.cast(x, tf.bfloat16) for x in (z, v))
    clip_logits = model.get_layer("pool")(
        segment_logits, segment_mask=mask, attention_logits=attention_logits
    )
    assert clip_logits.dtype == tf.float32


def test_without_a_mask_every_segment_is_real():
    z = clips()[0]
    np.testing.assert_array_equal(Pooling()(z), pooling.average(z, np.ones(z.shape[:2], bool)))


def test_layer_round_trips_its_config():
    layer = Pooling("top_k", k=5, name="pool")
    config = Pooling.from_config(layer.get_config()).get_config()
    assert (config["head"], config["k"], config["name"]) == ("top_k", 5, "pool")


def test_misuse_is_named():
    with pytest.raises(
        ValueError, match=r"head: expected one of average, max, linear_softmax, .*, got 'median'"
    ):
        Pooling("median")
    with pytest.raises(ValueError, match="k: expected at least 1 segment, got 0"):
        Pooling("top_k", k=0)
    with pytest.raises(
        ValueError, match=r"attention_logits: expected .* for the head 'attention', got None"
    ):
        Pooling("attention")(clips()[0])
