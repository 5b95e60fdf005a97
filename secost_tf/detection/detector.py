"""A trained network that scores clips and segments, with all there is to know of it.

It comes from a run, or from an exported SavedModel; the latter loads no training code, no Keras
model and nothing of TensorFlow's Python.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soxr

from secost_tf.detection.windows import Network, SegmentScorer, fine_network, segment_scores
from secost_tf.models import WelsNetConfig, hop_frames, segment_spans
from secost_tf.runs import find_stage
from secost_tf.serving import EVERY_FRAME, LOG_MEL, Servable, quietly, read_exported
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.log_mel import LogMelConfig, log_mel

if TYPE_CHECKING:
    import keras

ClipNetwork = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Log-mel float32 [frames, mel_bins] -> clip scores float32 [C], segment scores float32 [K, C]."""


class Detection(NamedTuple):
    """The scores that a detector gives to a sound.

    Attributes:
        scores: of the classes in the whole sound, in 0..1, float32 [C].
        segment_scores: of the classes in each segment, in 0..1, float32 [K, C].
        times: the time that each segment stands for, onset and offset in seconds, float64 [K, 2].
    """

    scores: np.ndarray
    segment_scores: np.ndarray
    times: np.ndarray


@dataclasses.dataclass(frozen=True)
class Detector:
    """Find which classes sound in a recording, and when.

    Make one with `Detector.from_run` or `Detector.from_saved_model`; TensorFlow is loaded then.
    Call it with a waveform for clip scores, segment scores and their times.

    Source: detection by the segment scores of a network trained on weak labels alone: Kumar and
    Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Attributes:
        clip_network: log-mel float32 [frames, mel_bins] -> clip scores float32 [C] and segment
            scores float32 [K, C].
        every_frame: the same -> scores of the segments that begin with every frame, float32
            [K * stride, C]; None in models that were exported before there was this.
        config: of the network.
        log_mel: what its input is made with.
        class_map: its classes.
        folder: what it was loaded from.
        title: what it is called.

    Raises:
        ValueError: when it is called, if the waveform is not one-dimensional, floating and finite,
            or is shorter than a window of the log-mel.

    Example:
        `runs/secost` is a run on four classes.

        >>> import numpy as np
        >>> from secost_tf import Detector
        >>> detector = Detector.from_run("runs/secost")
        >>> waveform = np.random.default_rng(0).normal(0, 0.1, 32000)  # 2 s at 16 kHz
        >>> scores, segment_scores, times = detector(waveform, 16000)
        >>> scores.shape, segment_scores.shape, times.shape  # of 4 classes, in 5 segments
        ((4,), (5, 4), (5, 2))
        >>> float(times[-1, 1])  # seconds
        2.0
        >>> name = detector.class_map.display_names[scores.argmax()]
        >>> onset, offset = times[segment_scores[:, scores.argmax()].argmax()]
    """

    clip_network: ClipNetwork
    every_frame: Network | None
    config: WelsNetConfig
    log_mel: LogMelConfig
    class_map: ClassMap
    folder: str
    title: str = ""

    @classmethod
    def from_run(cls, run_dir: str, stage: int | None = None) -> Detector:
        """Load the student of a stage, on TensorFlow and Keras.

        Args:
            run_dir: folder of the run.
            stage: number of the stage. Default: the last one that is done.

        Raises:
            ValueError: if the stage, or any stage, is not done.
        """
        folder = find_stage(run_dir, stage)
        record = folder.record
        return cls.from_student(
            folder.student, record.config.network, record.log_mel, record.class_map, folder.path
        )

    @classmethod
    def from_saved_model(cls, folder: str) -> Detector:
        """Load a model that `secost_tf.export` made, in TensorFlow's C++ runtime.

        Args:
            folder: of a version, or of versions, of which the last is taken.

        Raises:
            ValueError: if there is no model, it is not one of these, or TensorFlow's C++ loader
                refuses it.
        """
        exported = read_exported(folder)
        with quietly():  # newer TensorFlows tell of what they look for
            model = Servable(exported.folder)

        def run(signature: str, frames: np.ndarray) -> dict[str, np.ndarray]:
            return model.run(signature, {"log_mel": np.asarray(frames[None], np.float32)})

        def clip_network(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            outputs = run(LOG_MEL, frames)
            return outputs["scores"][0], outputs["segment_scores"][0]

        def every_frame(frames: np.ndarray) -> np.ndarray:
            return run(EVERY_FRAME, frames)["segment_scores"][0]

        return cls(
            clip_network,
            every_frame if EVERY_FRAME in model.signatures else None,
            exported.config,
            exported.log_mel,
            exported.class_map,
            exported.folder,
            exported.title,
        )

    @classmethod
    def from_student(
        cls,
        student: keras.Model,
        config: WelsNetConfig,
        log_mel: LogMelConfig,
        class_map: ClassMap,
        folder: str,
    ) -> Detector:
        """Make a detector of a `wels_net`; the other arguments are the detector's attributes."""
        import tensorflow as tf

        from secost_tf.models import every_frame

        def traced(outputs: Callable[[dict[str, tf.Tensor]], list[tf.Tensor]]) -> Callable:
            """Return a function of one log-mel: the sigmoid of some logits, as arrays."""

            def scores(log_mels):
                inputs = {"log_mel": log_mels, "num_frames": tf.shape(log_mels)[1:2]}
                return [tf.sigmoid(logits[0]) for logits in outputs(inputs)]

            graph = tf.function(scores, [tf.TensorSpec([1, None, log_mel.mel_bins], tf.float32)])
            return lambda frames: tuple(
                part.numpy() for part in graph(tf.constant(frames[None], tf.float32))
            )

        def clip_logits(inputs):
            outputs = student(inputs, training=False)
            return [outputs["logits"], outputs["segment_logits"]]

        @functools.cache
        def fine() -> Callable:  # made when it is asked for
            model = every_frame(student)
            return traced(lambda inputs: [model(inputs, training=False)])

        return cls(
            clip_network=traced(clip_logits),
            every_frame=lambda frames: fine()(frames)[0],
            config=config,
            log_mel=log_mel,
            class_map=class_map,
            folder=folder,
        )

    def __call__(self, waveform: np.ndarray, sample_rate_hz: int) -> Detection:
        """Score a sound, which the network sees as a whole.

        Memory grows with its length, by 5 MB a second at width 1; for recordings of more than some
        minutes see `localize_recordings`.

        Args:
            waveform: mono, float [samples], full scale -1..1.
            sample_rate_hz: its sample rate; resampled if the network has another.

        Returns:
            Its clip scores, its segment scores and their times.

        Raises:
            ValueError: if the waveform is not one-dimensional, floating and finite, or is shorter
                than a window of the log-mel.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
            raise ValueError(
                "waveform: expected floats in -1..1 of shape [samples], the mean of the channels; "
                f"got {waveform.dtype} of shape {list(waveform.shape)}"
            )
        if not np.isfinite(waveform).all():
            raise ValueError("waveform: expected finite samples, got NaN or infinity")
        seconds, rate = len(waveform) / sample_rate_hz, self.log_mel.sample_rate_hz
        if sample_rate_hz != rate:
            waveform = soxr.resample(
                waveform.astype(np.float32), sample_rate_hz, rate, quality="HQ"
            )
        frames = log_mel(waveform, self.log_mel)
        if not len(frames):
            raise ValueError(
                f"waveform: expected at least {self.log_mel.window_seconds:g} s of sound, got "
                f"{seconds:.3f} s"
            )
        scores, of_segments = self.clip_network(frames)
        times = segment_spans(self.config, self.log_mel, len(frames), seconds=seconds)
        return Detection(scores, of_segments, times)

    def network(self, frames: np.ndarray) -> np.ndarray:
        """Return the segment scores of a log-mel that the network sees as a whole.

        Args:
            frames: float32 [frames, mel_bins].

        Returns:
            float32 [K, C].
        """
        return self.clip_network(frames)[1]

    def hop_seconds(self, hop_scale: int = 1) -> float:
        """Return the time from one segment to the next.

        Raises:
            ValueError: if the hop is no whole number of frames.
        """
        hop = hop_frames(self.config, hop_scale) * self.log_mel.hop_samples
        return hop / self.log_mel.sample_rate_hz

    def scorer(self, hop_scale: int = 1, eager: bool = False) -> SegmentScorer:
        """Return what scores a recording of any length in blocks of its log-mel.

        Args:
            hop_scale: 1: the segments that the network was trained with, a stride apart. More: see
                `fine_network`.
            eager: score each segment as soon as its context is there.

        Raises:
            ValueError: if the hop is no whole number of frames, or the model has no finer one.
        """
        network = self._network_of(hop_scale)
        return SegmentScorer(network, self.config, hop_scale, eager=eager)

    def segment_scores(self, blocks: Iterable[np.ndarray], hop_scale: int = 1) -> np.ndarray:
        """Return the scores of a recording of any length, from blocks of its log-mel.

        Args:
            blocks: float32 [frames, mel_bins] each.
            hop_scale: see `scorer`.

        Returns:
            float32 [K, C].
        """
        return segment_scores(blocks, self._network_of(hop_scale), self.config, hop_scale)

    def _network_of(self, hop_scale: int) -> Network:
        if hop_scale == 1:
            return self.network
        if self.every_frame is None:
            raise ValueError(
                f"{self.folder}: expected a signature {EVERY_FRAME!r} for a hop_scale above 1, and "
                "this model has none; export it again"
            )
        return fine_network(self.every_frame, self.config, hop_scale)
