"""Small networks that several tests build."""

from secost_tf.models.config import WelsNetConfig

# One block and few layers, which are built and traced quickly: that of `kept_run`, and the flags
# that name it.
SMALL = {
    "width": 0.02,
    "block_channels": (400,),
    "block_pools": (32,),
    "block_convolutions": 1,
    "hidden_channels": (1024,),
}
SMALL_FLAGS = (
    "--width=0.02",
    "--block_channels=400",
    "--block_pools=32",
    "--block_convolutions=1",
    "--hidden_channels=1024",
)

TINY = WelsNetConfig(
    num_classes=3,
    mel_bins=8,
    block_channels=(4, 5),
    block_pools=(4, 2),
    embedding_channels=8,
    hidden_channels=(6,),
)
