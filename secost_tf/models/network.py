"""WELS-Net: a fully convolutional network from log-mels to segment logits, and a head P to clip
logits.

A reconstruction: the slides of SeCoST leave the layer table to the paper; this one follows the
authors' published family of networks. Every number is in `WelsNetConfig`.

    block    layers                                                    output for 1024 frames x 64 mel bins
    B1       conv 3x3, 64, twice; max-pool 4x4                         256 x 16 x 64
    B2       conv 3x3, 128, twice; max-pool 2x2                        128 x 8 x 128
    B3       conv 3x3, 256, twice; max-pool 2x2                        64 x 4 x 256
    B4       conv 3x3, 512, twice; max-pool 2x2                        32 x 2 x 512
    B5       conv 3x2 valid, 2048                                      30 x 1 x 2048
    B6, B7   conv 1x1, 1024                                            30 x 1 x 1024
    B8       conv 1x1, C: the segment logits                           K = 30 x C
    P        pooling head: the clip logits                             C

Every convolution but B8 is followed by batch normalisation and ReLU. A clip is padded at its end to
a whole number of strides (32 frames), so that ten seconds (998 frames) give K = 30 segments as
well.
"""

from __future__ import annotations

import keras

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.fast_layers import BatchNorm, Convolution, ConvolutionNorm
from secost_tf.models.layers import SegmentMask, Standardize, ZeroPadding
from secost_tf.models.pooling import Pooling


def wels_net(config: WelsNetConfig, name: str = "wels_net") -> keras.Model:
    """Builds the network.

    Inputs:
        log_mel: float [batch, frames, mel_bins], any number of frames; clips of a batch padded to
            one length.
        num_frames: int32 [batch], each clip's own number of frames.

    Outputs:
        logits: float32 [batch, C], of the clip scores.
        segment_logits: float32 [batch, K, C], of the segment scores; those behind a clip's own K
            are meaningless.
    """
    # === Functional Model ===
    log_mel = keras.Input((None, config.mel_bins), name="log_mel")
    num_frames = keras.Input((), dtype="int32", name="num_frames")
    multiple, stride = config.stride_frames, 1

    norm = {"momentum": config.batch_norm_momentum, "epsilon": config.batch_norm_epsilon}

    def convolve(x, channels, kernel, padding, name):
        """Convolution and batch normalisation."""
        channels = config.channels(channels)
        if padding == "same":
            x = ZeroPadding(stride, multiple, name=f"{name}_zero_padding")(x, num_frames)
        if x.shape[-1] == 1:
            return ConvolutionNorm(channels, **norm, name=name)(x)
        options = {"padding": padding, "use_bias": False, "kernel_initializer": "he_normal"}
        x = Convolution(channels, kernel, **options, name=f"{name}_conv")(x)
        return BatchNorm(**norm, name=f"{name}_norm")(x)

    x = Standardize(multiple, config.window_frames, name="standardize")(log_mel, num_frames)
    for block, (channels, pool) in enumerate(
        zip(config.block_channels, config.block_pools, strict=True), 1
    ):
        for number in range(1, config.block_convolutions + 1):
            x = convolve(x, channels, 3, "same", f"b{block}_{number}")
            if (
                number == config.block_convolutions
            ):  # before the ReLU, which is the same and less work
                x = keras.layers.MaxPooling2D(pool, name=f"b{block}_pool")(x)
            x = keras.layers.ReLU(name=f"b{block}_{number}_relu")(x)
        stride *= pool
    block = len(config.block_channels) + 1
    x = ZeroPadding(stride, multiple, name=f"b{block}_zero_padding")(x, num_frames)
    kernel = (config.embedding_frames, config.mel_bins // config.stride_frames)
    x = convolve(x, config.embedding_channels, kernel, "valid", f"b{block}")
    x = keras.layers.ReLU(name=f"b{block}_relu")(x)
    for block, channels in enumerate(config.hidden_channels, block + 1):  # noqa: B020
        x = convolve(x, channels, 1, "valid", f"b{block}")
        x = keras.layers.ReLU(name=f"b{block}_relu")(x)

    def segment_outputs(name):
        outputs = Convolution(config.num_classes, 1, dtype="float32", name=name)(x)
        return keras.layers.Reshape(
            (-1, config.num_classes), dtype="float32", name=f"{name}_per_segment"
        )(outputs)

    segment_logits = segment_outputs(f"b{block + 1}")
    segment_mask = SegmentMask(stride, config.embedding_frames, name="segment_mask")(
        segment_logits, num_frames
    )
    attention = (
        {"attention_logits": segment_outputs("attention")} if config.pooling == "attention" else {}
    )
    pooling = Pooling(config.pooling, k=config.pooling_k, name="pooling")
    logits = pooling(segment_logits, segment_mask=segment_mask, **attention)
    return keras.Model(
        inputs={"log_mel": log_mel, "num_frames": num_frames},
        outputs={"logits": logits, "segment_logits": segment_logits},
        name=name,
    )
