"""Build WELS-Net, a fully convolutional network from log-mels to segment and clip logits.

A reconstruction: the slides of SeCoST leave the layer table to the paper; this one follows the
authors' published family of networks. Every number is in `WelsNetConfig`.

    block    layers                              output for 1024 frames x 64 mel bins
    B1       conv 3x3, 64, twice; max-pool 4x4   256 x 16 x 64
    B2       conv 3x3, 128, twice; max-pool 2x2  128 x 8 x 128
    B3       conv 3x3, 256, twice; max-pool 2x2  64 x 4 x 256
    B4       conv 3x3, 512, twice; max-pool 2x2  32 x 2 x 512
    B5       conv 3x2 valid, 2048                30 x 1 x 2048
    B6, B7   conv 1x1, 1024                      30 x 1 x 1024
    B8       conv 1x1, C: the segment logits     K = 30 x C
    P        pooling head: the clip logits       C

Every convolution but B8 is followed by batch normalisation and ReLU. A clip is padded at its end to
a whole number of strides (32 frames), so that ten seconds (998 frames) give K = 30 segments too.
"""

from __future__ import annotations

from typing import Any

import keras

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.fast_layers import BatchNorm, Convolution, ConvolutionNorm
from secost_tf.models.layers import SegmentMask, Standardize, ZeroPadding
from secost_tf.models.pooling import Pooling

# A tensor of Keras's functional API: tf.keras 2's and Keras 3's have no type in common.
Symbol = Any


def wels_net(config: WelsNetConfig, name: str = "wels_net") -> keras.Model:
    """Build WELS-Net as a functional Keras model.

    Its first layer, "standardize", wants the mean and variance of the training data:
    `network.get_layer("standardize").adapt(inputs)`, before training.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789), figure 1 of the slides; the
    layers as in Kumar, Khadkevich and Fügen (ICASSP 2018, arXiv:1711.01369), as far as known.

    Args:
        config: the network's numbers.
        name: of the model.

    Call arguments:
        inputs: a dict of `log_mel`, float [batch, frames, mel_bins] in nat, with any number of
            frames, and `num_frames`, int32 [batch], each clip's own number of frames. What lies
            behind it is padding and never counts.

    Returns:
        A model with the outputs `logits`, float32 [batch, classes], whose sigmoid are the clip
        scores, and `segment_logits`, float32 [batch, K, classes]; those behind a clip's own K
        (`config.num_segments`) are meaningless.

    Raises:
        ValueError: by `WelsNetConfig`, for numbers that make no network.

    Example:
        >>> import numpy as np
        >>> from secost_tf import WelsNetConfig, wels_net
        >>> network = wels_net(WelsNetConfig(num_classes=3, width=0.05))
        >>> log_mel = np.zeros((1, 998, 64), "float32")  # ten seconds
        >>> outputs = network({"log_mel": log_mel, "num_frames": np.array([998], "int32")})
        >>> outputs["logits"].shape.as_list(), outputs["segment_logits"].shape.as_list()
        ([1, 3], [1, 30, 3])
    """
    # === Functional Model ===
    log_mel = keras.Input((None, config.mel_bins), name="log_mel")
    num_frames = keras.Input((), dtype="int32", name="num_frames")
    stride = config.stride_frames
    x = Standardize(stride, config.window_frames, name="standardize")(log_mel, num_frames)
    x = _blocks(x, num_frames, config)
    block = len(config.block_channels) + 1
    x = ZeroPadding(stride, stride, name=f"b{block}_zero_padding")(x, num_frames)
    kernel = (config.embedding_frames, config.mel_bins // stride)
    x = _convolve(x, config, config.embedding_channels, kernel, f"b{block}")
    x = keras.layers.ReLU(name=f"b{block}_relu")(x)
    for block, channels in enumerate(config.hidden_channels, block + 1):  # noqa: B020
        x = _convolve(x, config, channels, 1, f"b{block}")
        x = keras.layers.ReLU(name=f"b{block}_relu")(x)
    segment_logits = _segment_outputs(x, config, f"b{block + 1}")
    mask = SegmentMask(stride, config.embedding_frames, name="segment_mask")
    arguments = {"segment_mask": mask(segment_logits, num_frames)}
    if config.pooling == "attention":
        arguments["attention_logits"] = _segment_outputs(x, config, "attention")
    pooling = Pooling(config.pooling, k=config.pooling_k, name="pooling")
    inputs = {"log_mel": log_mel, "num_frames": num_frames}
    outputs = {"logits": pooling(segment_logits, **arguments), "segment_logits": segment_logits}
    return keras.Model(inputs, outputs, name=name)


def _blocks(x: Symbol, num_frames: Symbol, config: WelsNetConfig) -> Symbol:
    """Add B1 to B4: 3x3 convolutions, and a max-pool behind the last of each block."""
    stride = 1
    blocks = zip(config.block_channels, config.block_pools, strict=True)
    for block, (channels, pool) in enumerate(blocks, 1):
        for number in range(1, config.block_convolutions + 1):
            name = f"b{block}_{number}"
            padding = ZeroPadding(stride, config.stride_frames, name=f"{name}_zero_padding")
            x = _convolve(padding(x, num_frames), config, channels, 3, name)
            if number == config.block_convolutions:
                # Before the ReLU, which gives the same and is less work.
                x = keras.layers.MaxPooling2D(pool, name=f"b{block}_pool")(x)
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
        stride *= pool
    return x


def _convolve(
    x: Symbol, config: WelsNetConfig, channels: int, kernel: int | tuple[int, int], name: str
) -> Symbol:
    """Add a convolution and its batch normalisation; one of 3 x 3 is zero-padded."""
    channels, padded = config.channels(channels), kernel == 3
    norm = {"momentum": config.batch_norm_momentum, "epsilon": config.batch_norm_epsilon}
    if padded and x.shape[-1] == 1:
        return ConvolutionNorm(channels, **norm, name=name)(x)
    options = {"use_bias": False, "kernel_initializer": "he_normal"}
    padding = "same" if padded else "valid"
    x = Convolution(channels, kernel, padding=padding, **options, name=f"{name}_conv")(x)
    return BatchNorm(**norm, name=f"{name}_norm")(x)


def _segment_outputs(x: Symbol, config: WelsNetConfig, name: str) -> Symbol:
    """Add a 1x1 convolution to the classes: float32 [batch, K, classes]."""
    outputs = Convolution(config.num_classes, 1, dtype="float32", name=name)(x)
    shape, options = (-1, config.num_classes), {"dtype": "float32", "name": f"{name}_per_segment"}
    return keras.layers.Reshape(shape, **options)(outputs)
