"""The command: its flags, the flagfiles of the slides' experiments, and one experiment from end to
end.
"""

import functools
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from networks import SMALL_FLAGS

from secost_tf import experiment
from tfrecord_tools.config_flags import define_flags, read_flags

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "flags" / "experiments"
TRAINING = FOLDER / "esc10_training.flags"
SMALL = (
    *SMALL_FLAGS,
    "--epochs=2",
    "--batch_size=4",
    "--learning_rate=3e-3",
    "--validation_share=0.3",
)
# Stage, alphas, alphas of the sweep, epochs with those of TRAINING counted once, controls.
SLIDES = {
    "alpha_effect": (1, (0.3,), tuple(tenth / 10 for tenth in range(10, -1, -1)), 1, []),
    "fixed_alpha": (4, (0.3,), (), 1, ["no_teacher", "same_compute"]),
    "teacher_only": (3, (0.0,), (), 1, ["no_teacher", "same_compute"]),
    "increasing_teacher": (
        *(5, (0.3, 0.2375, 0.175, 0.1125, 0.05), ()),
        *(1, ["no_teacher", "same_compute"]),
    ),
    "no_teacher": (5, (1.0,), (), 1, []),
    "same_compute": (0, (0.3,), (), 6, []),
}


@pytest.fixture
def parse(flags_defined_anew):
    """Parses arguments with the command's flags, which are undefined again afterwards."""

    def parsed(*arguments):
        define_flags(*experiment.SETTINGS)
        flags.FLAGS(["experiment", *map(str, arguments)])

    return parsed


@pytest.fixture
def run_experiment(command):
    """Runs the command: (exit status, printed, stderr)."""

    return functools.partial(command, experiment)


# --- flagfiles ---


@pytest.mark.parametrize("name", SLIDES)
def test_a_flagfile_makes_the_slides_experiment(parse, name):
    parse(f"--flagfile={FOLDER / name}.flags", f"--flagfile={TRAINING}")
    config = experiment.experiment_config(read_flags(experiment.ExperimentSettings))
    stage, alphas, sweep_alphas, factor, controls = SLIDES[name]
    assert (config.name, config.seeds, list(flags.FLAGS.controls)) == (
        name,
        5,
        controls,
    )
    assert (config.cascade.stage, config.cascade.alphas) == (stage, alphas)
    assert config.sweep_alphas == sweep_alphas
    training = [line for line in TRAINING.read_text().splitlines() if line.startswith("--epochs=")]
    assert config.cascade.train.epochs == factor * int(training[0].removeprefix("--epochs="))


def test_the_teacher_grows_in_equal_steps_to_95_percent():
    teachers = [1 - alpha for alpha in SLIDES["increasing_teacher"][1]]
    steps = [after - before for before, after in itertools.pairwise(teachers)]
    assert teachers[0] == pytest.approx(0.7) and teachers[-1] == pytest.approx(0.95)
    assert steps == pytest.approx([0.0625] * 4)


def test_the_same_compute_is_that_of_all_stages():
    assert SLIDES["same_compute"][3] == SLIDES["increasing_teacher"][0] + 1


# --- flags ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--run_dir=R"],
            "run_dir: an experiment has a run for each seed; give --experiments_dir and --name",
        ),
        (["--seed=3"], "seed: an experiment has a run for each seed; give --seeds instead"),
        (["--name=a/b"], "name: expected that of an experiment"),
        (
            ["--sweep_alphas=0.1,x", "--stage=1"],
            "--sweep_alphas=0.1,x: expected a comma separated list of numbers from 0 to 1",
        ),
        (
            ["--sweep_alphas=0.1"],
            "stage: expected 1 with --sweep_alphas, the one stage that is swept, got 0",
        ),
        (["--strategy=multi_worker"], "strategy: an experiment runs on one machine"),
        (["--only_seeds=5"], "only_seeds: expected seeds from 0 to 4 (--seeds), got 5"),
        (["--controls=a/b"], "name: expected that of an experiment"),
    ],
)
def test_wrong_use(run_experiment, tmp_path, arguments, message):
    status, printed, stderr = run_experiment(
        "--name=mine", f"--experiments_dir={tmp_path}", *arguments
    )
    assert (status, printed) == (1, "") and message in stderr and "Traceback" not in stderr
    assert not list(tmp_path.iterdir())


def test_without_a_name(run_experiment):
    status, _, stderr = run_experiment("--stage=1")
    assert status == 1 and "give --name, or a --flagfile that holds it" in stderr


def test_seeds_and_cores_are_shared_out(parse, monkeypatch):
    monkeypatch.setattr(experiment, "available_cores", lambda: 5)
    parse("--name=mine", "--processes=2")
    commands = experiment.commands_of_seeds((0, 1, 4), 2, ["--name=mine", "--processes=2"])
    common = [
        sys.executable,
        "-m",
        "secost_tf.experiment",
        "--name=mine",
        "--processes=2",
        "--processes=1",
    ]
    assert commands == {
        "seed 0,4": [*common, "--only_seeds=0,4", "--threads=2"],
        "seed 1": [*common, "--only_seeds=1", "--threads=2"],
    }


def test_threads_that_were_asked_for_stay(parse):
    parse("--name=mine", "--processes=2", "--threads=3")
    (first, _) = experiment.commands_of_seeds((0, 1), 2, ["--threads=3"]).values()
    assert [one for one in first if one.startswith("--threads")] == ["--threads=3"]


def test_help_is_there_without_tensorflow():
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "secost_tf.experiment", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    for name in (
        "name",
        "seeds",
        "sweep_alphas",
        "controls",
        "table_only",
        "width",
        "data_dir",
        "alpha",
    ):
        assert re.search(rf"^  --(\[no\])?{name}:", shown.stdout, re.MULTILINE), name
    assert not re.search(r"\b(tensorflow|keras|matplotlib)\b", shown.stderr)


def test_the_command_of_another_experiment(parse):
    parse("--name=fixed_alpha")
    argv = ["prog", "--flagfile=flags/experiments/fixed_alpha.flags", "--flagfile", "x/esc10.flags"]
    assert experiment.command_for(
        "no_teacher",
        [*argv, "--stage=2", "--seeds=3", "--table_only", "--alpha_per_class_csv=A.csv"],
    ) == (
        "python -m secost_tf.experiment --flagfile=flags/experiments/no_teacher.flags --flagfile "
        "x/esc10.flags --seeds=3"
    )
    assert experiment.command_for(
        "fixed_alpha", [*argv, "--table_only=true", "--data_dir=a b"]
    ) == (
        "python -m secost_tf.experiment --flagfile=flags/experiments/fixed_alpha.flags --flagfile "
        "x/esc10.flags "
        "'--data_dir=a b'"
    )
    assert experiment.command_for("no_teacher", ["prog", "--name=fixed_alpha"]) == (
        "python -m secost_tf.experiment --flagfile=no_teacher.flags (and the flags of the data)"
    )


# --- from end to end ---


def test_an_experiment_from_end_to_end(run_experiment, kept_data, tmp_path, files_of):
    own = ["--name=base", f"--experiments_dir={tmp_path}", "--controls=longer"]
    training = [*SMALL, "--stage=0", f"--data_dir={kept_data}"]
    status, printed, stderr = run_experiment(*own, *training, "--seeds=1")
    assert status == 0, stderr
    lines = printed.splitlines()
    assert lines[0].startswith("base: 1 seed, eval (12 clips, 4 classes, chance mAP 0.")
    assert lines[3].split()[:2] == ["0", "1"]
    assert "Not compared with longer: " in printed and "--flagfile=longer.flags" in printed
    folder = tmp_path / "base"
    assert sorted(path.name for path in folder.iterdir()) == [
        "experiment.json",
        "results.csv",
        "results.json",
        "results.png",
        "seed-0",
    ]
    written = (folder / "seed-0" / "stage-0" / "flags.txt").read_text().splitlines()
    assert written[0].startswith("# python -m secost_tf.train")
    assert {"--width=0.02", "--epochs=2", "--stage=0", "--seed=0"} <= set(written)
    assert len(written) == len(set(written)) and not any("seeds" in line for line in written)

    before = files_of(folder)
    assert run_experiment(*own, "--table_only", "--seeds=1")[1] == printed
    assert files_of(folder) == before
    status, _, stderr = run_experiment(*own, "--table_only", "--seeds=2")
    assert status == 1
    assert "base: seed 1, stage 0 is not done" in stderr
    assert "Continue with: python -m secost_tf.experiment --name=base" in stderr

    status, printed, stderr = run_experiment(*own, *training, "--seeds=2", "--dry_run")
    assert status == 0, stderr
    assert "stages to train  0\n" in printed
    assert "This is base, seed 1. base has 1 stages to train in all" in printed
    assert not (folder / "seed-1").exists()
    status, _, stderr = run_experiment(*own, *training, "--seeds=1", "--epochs_factor=3")
    assert status == 1 and "begun with other settings (there != asked): epochs: 2 != 6" in stderr
