"""Small networks that several tests build."""

from secost_tf.config import WelsNetConfig

TINY = WelsNetConfig(
    num_classes=3,
    mel_bins=8,
    block_channels=(4, 5),
    block_pools=(4, 2),
    embedding_channels=8,
    hidden_channels=(6,),
)
