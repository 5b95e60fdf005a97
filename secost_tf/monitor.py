"""`python -m secost_tf.monitor --saved_model=DIR --input=FILE|-|microphone`: events as they sound.

They are those that `python -m secost_tf.localize` finds, printed as they begin and end.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence

from secost_tf import detection
from secost_tf.detection import PostProcessing, ThresholdSettings
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
        "Sample rate of --input=-, in Hz; resampled if the model has another. Default: the "
        "model's.",
        minimum=1000,
    )
    device: str | None = setting(None, "Number or name of the microphone. Default: the system's.")
    real_time: bool | None = setting(
        None,
        "Take a file as fast as it plays. Default: on a terminal; elsewhere as fast as it can be "
        "read.",
    )
    top: int = setting(10, "Rows of the table: classes with the highest scores of late.", minimum=1)


SETTINGS = (MonitorSettings, ThresholdSettings, PostProcessing)


def main(argv: Sequence[str]) -> None:
    """Read the flags, load the model and listen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings, config = read_flags(MonitorSettings), read_flags(PostProcessing)
    detector = detection.Detector.from_saved_model(settings.saved_model)
    thresholds = read_flags(ThresholdSettings).of_classes(detector.class_map, None)
    rate = detector.log_mel.sample_rate_hz
    real_time = False
    if settings.input == MICROPHONE:
        source = detection.MicrophoneSource(rate, settings.device)
    elif settings.input == "-":
        source = detection.PipeSource(sys.stdin.buffer, settings.input_rate_hz or rate, rate)
    else:
        if not os.path.isfile(settings.input):
            raise ValueError(
                f"input: expected a file, - or microphone; there is no file {settings.input!r}"
            )
        source = detection.FileSource(settings.input, detector.log_mel)
        real_time = sys.stdout.isatty() if settings.real_time is None else settings.real_time
    title = f"{detector.title}: {settings.input}"
    screen = detection.Screen(sys.stdout, detector.class_map.display_names, title, settings.top)
    detection.listen(source, detector, thresholds, config, screen, real_time)


def run() -> None:
    """Run the console script."""
    run_command(main, *SETTINGS, continues=False)


if __name__ == "__main__":
    run()
