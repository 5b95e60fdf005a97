"""`python -m secost_tf.monitor --saved_model=DIR --input=FILE|-|microphone`: what is heard in a stream, as it is heard."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags, logging

from secost_tf import monitor_sources
from secost_tf.detector import read_exported
from secost_tf.monitor_screen import Screen
from secost_tf.monitor_stream import EventTracker, Grid, StreamScorer
from secost_tf.servable import Servable
from tfrecord_tools.commands import run_command

FLAGS = flags.FLAGS
MICROPHONE = "microphone"


def define_monitor_flags() -> None:
    """What to listen to, with which model, and what to show."""
    flags.DEFINE_string(
        "saved_model",
        "models/secost",
        "Folder of an exported model (secost_tf.export --export_dir); its latest version is taken, or a version's folder.",
    )
    flags.DEFINE_string(
        "input",
        MICROPHONE,
        "A recording's file; - for raw 16-bit little-endian mono samples on standard input; or microphone (extra "
        "microphone).",
    )
    flags.DEFINE_integer(
        "input_rate_hz",
        None,
        "Sample rate of --input=-, in Hz; resampled if the model has another. Default: the model's.",
        lower_bound=1000,
    )
    flags.DEFINE_string("device", None, "Number or name of the microphone. Default: the system's.")
    flags.DEFINE_bool(
        "real_time",
        None,
        "Take a file as fast as it plays. Default: on a terminal; elsewhere as fast as it can be read.",
    )
    flags.DEFINE_float(
        "window_seconds",
        4.8,
        "Sound that the network sees at once, in seconds; more steadies the scores a little and takes longer.",
        lower_bound=0.1,
    )
    flags.DEFINE_float(
        "threshold", 0.5, "Score at which an event begins, in 0..1.", lower_bound=0.0, upper_bound=1.0
    )
    flags.DEFINE_float(
        "hysteresis",
        0.4,
        "The share of --threshold by which a score may fall below it while the event goes on, less than 1, so that a score "
        "that wavers is one event. 0: not at all.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "top", 10, "Rows of the table: classes with the highest scores of late.", lower_bound=1
    )


class Model:
    """An exported model as a monitor needs it.

    Args:
        folder: of its versions, or of one.

    Attributes:
        title: name and version.
        names: of the classes.
        grid: of its segments.
    """

    def __init__(self, folder: str):
        exported = read_exported(folder)
        hop = exported.log_mel.hop_samples
        self.title, self.names = exported.title, exported.class_map.display_names
        self.grid = Grid(
            exported.log_mel.sample_rate_hz,
            exported.config.stride_frames * hop,
            exported.config.window_frames * hop,
        )
        self._servable = Servable(exported.folder)

    def score_segments(self, waveform: np.ndarray) -> np.ndarray:
        """Waveform float32 [samples] -> segment scores [K, classes]."""
        return self._servable.run("serving_default", {"waveform": waveform[None]})["segment_scores"][0]


def monitor(
    blocks: Iterator[np.ndarray], scorer: StreamScorer, tracker: EventTracker, grid: Grid, screen: Screen
) -> None:
    """Shows what is heard in blocks of samples, until they end or Ctrl-C is pressed."""
    try:
        for block in blocks:
            for segment, scores in scorer.add(block):
                screen.add(scores)
                screen.events(tracker.add(grid.middle_seconds(segment), scores))
            screen.draw(scorer.num_samples / grid.sample_rate_hz, list(tracker.current))
    except KeyboardInterrupt:
        pass
    screen.events(tracker.end(scorer.num_samples / grid.sample_rate_hz))
    screen.close()
    if scorer.num_samples < grid.segment_samples:
        logging.warning(
            "the stream ended after %.2f s: nothing is scored before %.2f s",
            scorer.num_samples / grid.sample_rate_hz,
            grid.segment_samples / grid.sample_rate_hz,
        )


def main(argv: Sequence[str]) -> None:
    """Reads the flags, loads the model and listens."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tracker = EventTracker(FLAGS.threshold, FLAGS.hysteresis)
    is_terminal = sys.stdout.isatty()
    model = Model(FLAGS.saved_model)
    grid, rate = model.grid, model.grid.sample_rate_hz
    strides = round(FLAGS.window_seconds * rate / grid.stride_samples)
    scorer = StreamScorer(model.score_segments, grid, strides)
    if FLAGS.input == MICROPHONE:
        source = monitor_sources.of_microphone(rate, FLAGS.device)
    elif FLAGS.input == "-":
        source = monitor_sources.of_pipe(sys.stdin.buffer, FLAGS.input_rate_hz or rate, rate)
    else:
        if not os.path.isfile(FLAGS.input):
            raise ValueError(f"input: expected a file, - or microphone; there is no file {FLAGS.input!r}")
        source = monitor_sources.of_file(FLAGS.input, rate)
    blocks = monitor_sources.in_blocks(source, grid.stride_samples)
    is_file = FLAGS.input not in (MICROPHONE, "-")
    if is_file and (is_terminal if FLAGS.real_time is None else FLAGS.real_time):
        blocks = monitor_sources.in_time(blocks, rate)
    screen = Screen(sys.stdout, model.names, f"{model.title}: {FLAGS.input}", FLAGS.top, is_terminal)
    monitor(blocks, scorer, tracker, grid, screen)


def run() -> None:
    """The console script."""
    run_command(main, define_monitor_flags)


if __name__ == "__main__":
    run()
