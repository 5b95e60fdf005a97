"""Every Keras object: front end, layers, WELS-Net, pooling heads, losses, distillation.

No files and no flags here: arguments in, tensors or models out.
"""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.models.backend import KERAS_3
    from secost_tf.models.clip_scores import score_clips
    from secost_tf.models.config import WelsNetConfig
    from secost_tf.models.distillation import TeacherDistillation, average_teacher
    from secost_tf.models.frame_segments import every_frame
    from secost_tf.models.frontend import LogMel, log_mel_by_products
    from secost_tf.models.layers import SegmentMask
    from secost_tf.models.losses import SeCoSTLoss, secost_loss, secost_target, stack_targets
    from secost_tf.models.network import wels_net
    from secost_tf.models.optimizers import build_optimizer, make_optimizer, optimizer_variables
    from secost_tf.models.pooling import Pooling
    from secost_tf.models.processor import processor_flags
    from secost_tf.models.segments import (
        context_frames,
        fine_segments,
        hop_frames,
        segment_spans,
        segment_times,
        span_edges,
    )
    from secost_tf.models.weight_average import WeightAverage
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
