import numpy as np
from networks import SMALL

from secost_tf.models import WelsNetConfig, score_clips, wels_net


def test_a_clip_is_scored_alike_whatever_is_scored_beside_it():
    config = WelsNetConfig(num_classes=3, mel_bins=32, **SMALL)
    student, generator = wels_net(config), np.random.default_rng(0)
    clips = [generator.normal(-6, 2, (frames, 32)).astype(np.float32) for frames in (40, 150, 97)]
    together = score_clips(student, clips)
    for clip, scores in zip(clips, together, strict=True):
        (alone,) = score_clips(student, [clip])
        np.testing.assert_array_equal(alone.clip, scores.clip)
        assert scores.clip.shape == (3,) and scores.clip.dtype == np.float64
        assert scores.segments.shape == (config.num_segments(len(clip)), 3)
        np.testing.assert_allclose(scores.segments.mean(axis=0), scores.clip, rtol=1e-5)  # P
