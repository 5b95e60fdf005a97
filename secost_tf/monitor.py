"""`python -m secost_tf.monitor --saved_model=DIR --input=FILE|-|microphone`: what is heard in a
stream, as it is heard.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from secost_tf.detection import (
    EventTracker,
    Grid,
    Model,
    Screen,
    StreamScorer,
    in_blocks,
    in_time,
    of_file,
    of_microphone,
    of_pipe,
)
from secost_tf.runs import EXPORTED_MODEL_HELP
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags

MICROPHONE = "microphone"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitorSettings(Config):
    """What to listen to, with which model, and what to show."""

    saved_model: str = setting("models/secost", EXPORTED_MODEL_HELP)
    input: str = setting(
        MICROPHONE,
        "A recording's file; - for raw 16-bit little-endian mono samples on standard input; or "
        "microphone (extra microphone).",
    )
    input_rate_hz: int | None = setting(
        None,
        "Sample rate of --input=-, in Hz; resampled if the model has another. Default: the model's.",
        minimum=1000,
    )
    device: str | None = setting(None, "Number or name of the microphone. Default: the system's.")
    real_time: bool | None = setting(
        None,
        "Take a file as fast as it plays. Default: on a terminal; elsewhere as fast as it can be read.",
    )
    window_seconds: float = setting(
        4.8,
        "Sound that the network sees at once, in seconds; more steadies the scores a little and "
        "takes longer.",
        minimum=0.1,
    )
    threshold: float = setting(
        0.5, "Score at which an event begins, in 0..1.", minimum=0, maximum=1
    )
    hysteresis: float = setting(
        0.4,
        "The share of --threshold by which a score may fall below it while the event goes on, so "
        "that a score that wavers is one event. 0: not at all.",
        minimum=0,
        below=1,
    )
    top: int = setting(10, "Rows of the table: classes with the highest scores of late.", minimum=1)


SETTINGS = (MonitorSettings,)


def monitor(
    blocks: Iterator[np.ndarray],
    scorer: StreamScorer,
    tracker: EventTracker,
    grid: Grid,
    screen: Screen,
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
    """Read the flags, load the model and listen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings = read_flags(MonitorSettings)
    tracker = EventTracker(settings.threshold, settings.hysteresis)
    is_terminal = sys.stdout.isatty()
    model = Model(settings.saved_model)
    grid, rate = model.grid, model.grid.sample_rate_hz
    strides = round(settings.window_seconds * rate / grid.stride_samples)
    scorer = StreamScorer(model.score_segments, grid, strides)
    if settings.input == MICROPHONE:
        source = of_microphone(rate, settings.device)
    elif settings.input == "-":
        source = of_pipe(sys.stdin.buffer, settings.input_rate_hz or rate, rate)
    else:
        if not os.path.isfile(settings.input):
            raise ValueError(
                f"input: expected a file, - or microphone; there is no file {settings.input!r}"
            )
        source = of_file(settings.input, rate)
    blocks = in_blocks(source, grid.stride_samples)
    is_file = settings.input not in (MICROPHONE, "-")
    if is_file and (is_terminal if settings.real_time is None else settings.real_time):
        blocks = in_time(blocks, rate)
    screen = Screen(
        sys.stdout, model.names, f"{model.title}: {settings.input}", settings.top, is_terminal
    )
    monitor(blocks, scorer, tracker, grid, screen)


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
