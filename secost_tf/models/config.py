"""WELS-Net's numbers."""

from __future__ import annotations

import dataclasses
import math

from tfrecord_tools.config import Config, setting

POOLING_HEADS = (
    "average",
    "max",
    "linear_softmax",
    "exp_softmax",
    "attention",
    "auto",
    "noisy_or",
    "top_k",
)  # the heads P of `secost_tf.models.pooling`


@dataclasses.dataclass(frozen=True)
class WelsNetConfig(Config):
    """Settings of WELS-Net; the defaults are the layer table in `secost_tf.models.network`.

    Source: as of `wels_net`.

    Raises:
        ValueError: if a number makes no network; says which and what was expected.

    Example:
        >>> from secost_tf import WelsNetConfig
        >>> config = WelsNetConfig(num_classes=527, pooling="attention")
        >>> config.stride_frames, config.num_segments(998)  # ten seconds
        (32, 30)
        >>> WelsNetConfig.from_dict(config.to_dict()) == config
        True
    """

    num_classes: int = setting(help="Outputs of B8, a score for each class.", minimum=1, flag=False)
    mel_bins: int = setting(
        64,
        "Height of the log-mel input; a multiple of the product of the max-pools (`block_pools`).",
        minimum=1,
        flag=False,
    )
    width: float = setting(
        1.0,
        "Multiplies the network's channels but not the classes; cost goes with its square. 1 is "
        "WELS-Net as published (14 M weights), 0.25 trains on two processor cores.",
        above=0,
    )
    block_channels: tuple[int, ...] = setting(
        (64, 128, 256, 512),
        "Channels of the blocks of 3x3 convolutions, B1 to B4, before --width, separated by "
        "commas.",
        minimum=1,
    )
    block_pools: tuple[int, ...] = setting(
        (4, 2, 2, 2),
        "Size of each block's max-pool, in frames and mel bins alike; their product is the frames "
        "from one segment to the next.",
        minimum=1,
    )
    block_convolutions: int = setting(2, "3x3 convolutions in each block.", minimum=1)
    embedding_channels: int = setting(
        2048, "Channels of B5, the convolution behind the blocks.", minimum=1, flag=False
    )
    embedding_frames: int = setting(
        3,
        "Length of the kernel of B5 in (pooled) frames; its height is whatever mel bins are left.",
        minimum=1,
        flag=False,
    )
    hidden_channels: tuple[int, ...] = setting(
        (1024, 1024),
        "Channels of the 1x1 convolutions behind the blocks, B6 and B7, before --width, separated "
        "by commas.",
        minimum=1,
    )
    pooling: str = setting(
        "average",
        "Head P, from segment scores to clip scores. average is the method's own; attention costs "
        "one convolution more.",
        choices=POOLING_HEADS,
    )
    pooling_k: int = setting(3, "Number of segments that --pooling=top_k averages.", minimum=1)
    batch_norm_momentum: float = setting(0.9, "Momentum of every batch normalisation.", flag=False)
    batch_norm_epsilon: float = setting(
        1e-3, "Added to the variance in every batch normalisation.", flag=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            len(self.block_pools) == len(self.block_channels) >= 1,
            "block_pools",
            f"one pool for each of {len(self.block_channels)} blocks",
        )
        self._require(
            self.mel_bins % self.stride_frames == 0,
            "mel_bins",
            f"a multiple of {self.stride_frames}, the product of the max-pools (block_pools)",
        )

    @property
    def stride_frames(self) -> int:
        """Frames from one segment to the next: 32 at the defaults, 0.32 s."""
        return math.prod(self.block_pools)

    @property
    def window_frames(self) -> int:
        """Frames that B5 sees for a segment: 96 at the defaults.

        The context of the 3x3 convolutions comes on top.
        """
        return self.stride_frames * self.embedding_frames

    def channels(self, number: int) -> int:
        """Return a number of channels after `width`; at least 1."""
        return max(1, round(number * self.width))

    @property
    def convolution_channels(self) -> tuple[int, ...]:
        """Channels of the 3x3 convolutions of B1 to B4, after `width`."""
        return tuple(map(self.channels, self.block_channels))

    def num_segments(self, num_frames: int) -> int:
        """Return K for a clip of `num_frames` frames.

        Whole and begun strides, less the kernel's overhang; at least 1.
        """
        cells = -(-num_frames // self.stride_frames)
        return max(1, cells - self.embedding_frames + 1)
