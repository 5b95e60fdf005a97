"""Convolutions and batch normalisation by the way that a processor is fast at.

The mathematics is Keras's, with fewer passes over memory: a step on a processor costs memory as
much as arithmetic, and B1's outputs alone are 64 channels for each of 1024 x 64 places of a clip.
So the first convolution takes its batch normalisation into its kernel, convolutions as high as
their input are matrix products, and large kernels get their gradient from matrix products where
oneDNN's own is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from secost_tf.models import processor
from secost_tf.models.backend import KERAS_3
from secost_tf.models.layers import Float32Layer

_PRODUCTS_FROM_CHANNELS = 256

_SAME_IN_ALL_REPLICAS = (
    {"aggregation": "only_first_replica"}
    if KERAS_3
    else {"aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA, "experimental_autocast": False}
)


@keras.saving.register_keras_serializable(package="secost_tf")
class BatchNorm(Float32Layer):
    """Normalise over all axes but the last, by the statistics of the global batch.

    Keras's own layer is either fused (2.15, one replica) or synchronised, and in Keras 3 never
    fused, which costs a third of the training speed on a CPU. This one uses TensorFlow's fused
    kernel on one replica and sums over replicas otherwise; both keep the biased variance, so that
    one replica and many agree.

    Args:
        momentum: of the moving statistics.
        epsilon: added to the variance.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: [batch, ..., channels].

    Returns:
        The same shape and type.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, input_shape: Any) -> None:
        """Make the weights, float32 [channels]."""
        shape = (input_shape[-1],)
        moving = {"trainable": False, **_SAME_IN_ALL_REPLICAS}
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", **moving
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", **moving
        )
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Return the normalised inputs."""
        gamma, beta, moving_mean, moving_variance = (
            tf.convert_to_tensor(weight)
            for weight in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if not training:
            return self._fused(x, gamma, beta, moving_mean, moving_variance, is_training=False)[0]
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            empty = tf.zeros([0])
            y, mean, variance = self._fused(x, gamma, beta, empty, empty, is_training=True)[:3]
            count = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
            # The kernel normalises by the biased variance but returns the other one.
            variance *= (count - 1) / count
        else:
            mean, variance = self._moments_over_replicas(tf.cast(x, tf.float32), context)
            scale = gamma * tf.math.rsqrt(variance + self.epsilon)
            y = x * tf.cast(scale, x.dtype) + tf.cast(beta - mean * scale, x.dtype)
        self._move_towards(mean, variance)
        return y

    def _move_towards(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            before = tf.convert_to_tensor(moving)
            moving.assign(self.momentum * before + (1 - self.momentum) * value)

    def _fused(
        self,
        x: tf.Tensor,
        scale: tf.Tensor,
        offset: tf.Tensor,
        mean: tf.Tensor,
        variance: tf.Tensor,
        is_training: bool,
    ) -> tuple[tf.Tensor, ...]:
        """Return the outputs of TensorFlow's kernel: the normalised x, mean, variance and more."""
        shape = tf.shape(x)
        image = x if len(x.shape) == 4 else tf.reshape(x, [-1, 1, 1, x.shape[-1]])
        y, *moments = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )
        return tf.reshape(y, shape) if image is not x else y, *moments

    @staticmethod
    def _moments_over_replicas(
        x: tf.Tensor, context: tf.distribute.ReplicaContext
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and biased variance, float32 [channels], with one all-reduce."""
        axes = list(range(len(x.shape) - 1))
        count = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
        sums = [tf.reduce_sum(x, axes), tf.reduce_sum(tf.square(x), axes), count[None]]
        total = _sum_over_replicas(tf.concat(sums, 0), context)
        mean, mean_square = tf.split(total[:-1] / total[-1], 2)
        return mean, tf.maximum(mean_square - tf.square(mean), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of."""
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


def _sum_over_replicas(x: tf.Tensor, context: tf.distribute.ReplicaContext) -> tf.Tensor:
    """Return the sum of all replicas' `x`, with its gradient.

    That of `all_reduce` alone searches all that came before, in every replica, for variables, once
    for each layer and direction: two fifths of the time until the first step. `stop_gradient`
    leaves it nothing to search.
    """

    def reduced(value: tf.Tensor) -> tf.Tensor:
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(value))

    return tf.custom_gradient(lambda value: (reduced(value), reduced))(x)


@keras.saving.register_keras_serializable(package="secost_tf")
class ConvolutionNorm(BatchNorm):
    """Convolve one channel with normalised 3x3 kernels, zero-padded.

    This is a convolution and its batch normalisation, with the latter folded into the kernel.
    An output is k . p, with k the nine numbers of a kernel and p those of the input that it sees.
    So the mean of all outputs is k . E[p], and their mean square k' E[p p'] k: nine and 81 numbers
    of the input give the statistics of any number of channels, and what is normalised is the
    kernel, not the outputs.

    Args:
        channels: of the outputs.
        momentum: of the moving statistics.
        epsilon: added to the variance.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: float [batch, time, mel, 1].

    Returns:
        [batch, time, mel, channels], of the precision policy's type.
    """

    def __init__(
        self, channels: int, momentum: float = 0.9, epsilon: float = 1e-3, **kwargs: Any
    ) -> None:
        super().__init__(momentum, epsilon, **kwargs)
        self.channels, self._type = channels, keras.mixed_precision.global_policy().compute_dtype

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        if input_shape[-1] != 1:
            raise ValueError(
                f"ConvolutionNorm: expected one channel, got inputs of shape {tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel", shape=(3, 3, 1, self.channels), initializer="he_normal"
        )
        super().build((None, self.channels))

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Return the normalised outputs of the convolution."""
        weights = (self.kernel, self.gamma, self.beta)
        kernel, gamma, beta = (tf.convert_to_tensor(weight) for weight in weights)
        if training:
            mean, variance = self._output_moments(x, tf.reshape(kernel, [9, self.channels]))
            self._move_towards(mean, variance)
        else:
            mean, variance = map(tf.convert_to_tensor, (self.moving_mean, self.moving_variance))
        scale = gamma * tf.math.rsqrt(variance + self.epsilon)
        y = tf.nn.conv2d(tf.cast(x, self._type), tf.cast(kernel * scale, self._type), 1, "SAME")
        return tf.nn.bias_add(y, tf.cast(beta - mean * scale, self._type))

    @staticmethod
    def _output_moments(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and biased variance of the outputs over the global batch.

        Float32 [channels] each, for a kernel [9, channels].
        """
        parts = _patch_sums(tf.cast(x[..., 0], tf.float32))
        sums = tf.concat([tf.reshape(part, [-1]) for part in parts], 0)
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            sums = _sum_over_replicas(sums, context)
        count, patch, products = tf.split(sums, [1, 9, 81])
        mean = tf.linalg.matvec(kernel, patch / count, transpose_a=True)
        products = tf.reshape(products / count, [9, 9])
        mean_square = tf.reduce_sum(kernel * tf.matmul(products, kernel), 0)
        return mean, tf.maximum(mean_square - tf.square(mean), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of."""
        return {**super().get_config(), "channels": self.channels}


def _patch_sums(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return sums over all 3x3 patches of zero-padded images.

    Summed are the number of patches, the nine numbers of each, and the products of these. Only
    three matrices of products are summed over the frames, those of frames zero, one and two apart;
    the patches' own products are among them.

    Args:
        x: float32 [batch, time, mel].

    Returns:
        float32 [], [3, 3] and [3, 3, 3, 3]: time and mel of one place in the patch, then of the
        other.
    """
    batch, time, mel = tf.shape(x)[0], tf.shape(x)[1], x.shape[2]
    first, last = x[:, 0], x[:, -1]
    # The zeros keep one clip's frames from the next's.
    rows = tf.reshape(tf.pad(x, [[0, 0], [0, 2], [0, 0]]), [-1, mel])
    length = batch * (time + 2) - 2
    same, next_frame, next_but_one = (
        tf.matmul(rows[:length], rows[apart : apart + length], transpose_a=True)
        for apart in range(3)
    )  # [mel, mel] each

    def padded(sums: tf.Tensor) -> tf.Tensor:
        """Return sums with the bins of zeros below and above, for each axis that holds bins."""
        return tf.pad(sums, [[1, 1]] * len(sums.shape))

    # A patch's early row is never a clip's last frame, its late row never the first.
    early, late = (same - tf.matmul(edge, edge, transpose_a=True) for edge in (last, first))
    grid = [[early, next_frame, next_but_one], [None, same, next_frame], [None, None, late]]
    grid = [
        [padded(grid[i][j]) if i <= j else tf.transpose(padded(grid[j][i])) for j in range(3)]
        for i in range(3)
    ]
    products = [
        [
            [
                [tf.linalg.trace(grid[i][j][m : m + mel, n : n + mel]) for n in range(3)]
                for j in range(3)
            ]
            for m in range(3)
        ]
        for i in range(3)
    ]
    total = tf.reduce_sum(rows, 0)
    left_out = (tf.reduce_sum(last, 0), tf.zeros_like(total), tf.reduce_sum(first, 0))
    bins = [padded(total - edge) for edge in left_out]
    sums = [[tf.reduce_sum(row[m : m + mel]) for m in range(3)] for row in bins]
    count = tf.cast(batch * time * mel, tf.float32)
    return count, tf.stack(sums), tf.stack(products)


@keras.saving.register_keras_serializable(package="secost_tf")
class Convolution(keras.layers.Conv2D):
    """Convolve as `keras.layers.Conv2D` does with a stride of one, the fast way on a processor.

    A valid convolution as high as its input, and those of 1x1 above one mel bin, are matrix
    products. Of a zero-padded one with many channels the kernel's gradient is a sum of matrix
    products, where oneDNN's own is several times as slow; in training alone, so that no custom
    gradient is in the graph of an exported network.
    """

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Return the outputs of the convolution."""
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), x.dtype)
        if self.padding == "valid" and kernel.shape[1] == x.shape[2]:
            y = _spanning_convolution(x, kernel)
        elif training and self.padding == "same" and _is_oneDNN_slow(kernel):
            y = _convolution_with_products(x, kernel)
        else:
            return super().call(x)
        if self.use_bias:
            y = tf.nn.bias_add(y, tf.cast(tf.convert_to_tensor(self.bias), x.dtype))
        return y if self.activation is None else self.activation(y)


def _spanning_convolution(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Return a valid convolution by a kernel as high as its input.

    Args:
        x: [batch, time, mel, channels].
        kernel: [frames, mel, channels, outputs].

    Returns:
        [batch, time - frames + 1, 1, outputs].
    """
    frames, mel, channels, outputs = kernel.shape
    rows = tf.reshape(x, [tf.shape(x)[0], -1, mel * channels])
    steps = tf.shape(rows)[1] - frames + 1
    windows = tf.concat([rows[:, i : i + steps] for i in range(frames)], -1) if frames > 1 else rows
    windows = tf.reshape(windows, [-1, frames * mel * channels])
    y = tf.matmul(windows, tf.reshape(kernel, [-1, outputs]))
    return tf.reshape(y, [-1, steps, 1, outputs])


def _is_oneDNN_slow(kernel: tf.Tensor) -> bool:
    """Tell if matrix products give this kernel's gradient sooner.

    They do with many channels, in bfloat16 or without AVX-512.
    """
    if min(kernel.shape[2:]) < _PRODUCTS_FROM_CHANNELS or tf.config.list_physical_devices("GPU"):
        return False
    return kernel.dtype == tf.bfloat16 or "avx512f" not in processor.processor_flags()


@tf.custom_gradient
def _convolution_with_products(
    x: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Return a zero-padded convolution, and the function of its gradient.

    The gradient of each place of the kernel is a product of shifted inputs and gradients.
    """
    high, wide, channels, outputs = kernel.shape

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        dx = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, strides=[1] * 4, padding="SAME"
        )
        before, after = (high - 1) // 2, (wide - 1) // 2
        padded = tf.pad(x, [[0, 0], [before, high - 1 - before], [after, wide - 1 - after], [0, 0]])
        time, mel = tf.shape(x)[1], tf.shape(x)[2]
        flat = tf.reshape(dy, [-1, outputs])

        def product(i: int, j: int) -> tf.Tensor:
            shifted = tf.reshape(padded[:, i : i + time, j : j + mel], [-1, channels])
            return tf.matmul(shifted, flat, transpose_a=True)

        places = [product(i, j) for i in range(high) for j in range(wide)]
        return dx, tf.reshape(tf.stack(places), kernel.shape)

    return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient
