"""The heads P for tagging and for localisation: mAP, F1 and PSDS of the base model with each, over
several seeds.

    python benchmarks/heads.py [--seeds=3] [--heads=average,attention] [--data_dir=D]
    [--experiments_dir=runs/heads] [--json=F]

Trains what is not done yet (`flags/experiments/heads.flags`, `secost_tf.experiment`), evaluates the
events of each run on the eval split (`secost_tf.evaluate --events`, with thresholds tuned on the
validation clips, which are weakly labelled) and prints a table: means over the seeds with their
standard deviation, and the baselines. Unknown arguments go to the training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pairs

FLAGFILE = pairs.ROOT / "flags" / "experiments" / "heads.flags"
MEASURES = ("mAP", "segment_F1", "event_F1", "PSDS_1", "PSDS_2")
DETECTION = ("--threshold=tuned", "--hop_scale=4", "--median_filter_seconds=0.5")


def run(module: str, *arguments: str) -> None:
    """Runs a command of the package; ends if it fails."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, cwd=pairs.ROOT)


def cell(values: list[float]) -> str:
    """Mean and, of several seeds, standard deviation."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main() -> None:
    from secost_tf.models.config import POOLING_HEADS

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=3, help="of each head (default 3)")
    options.add_argument(
        "--heads", default=",".join(POOLING_HEADS), help="separated by commas (default: all)"
    )
    options.add_argument(
        "--experiments_dir", default="runs/heads", help="folder of the runs (default runs/heads)"
    )
    options.add_argument("--json", help="file for the figures")
    arguments, training = options.parse_known_args()
    folder = Path(arguments.experiments_dir).absolute()
    found: dict[str, list[dict]] = {}
    for head in arguments.heads.split(","):
        name = f"head_{head}"
        run(
            "secost_tf.experiment", f"--flagfile={FLAGFILE}",
            f"--experiments_dir={folder}", f"--name={name}",
            f"--pooling={head}", f"--seeds={arguments.seeds}", *training,
        )  # fmt: skip
        for seed in range(arguments.seeds):
            run_dir = folder / name / f"seed-{seed}"
            metrics_json = run_dir / "stage-0" / "metrics-eval.json"
            if not metrics_json.exists() or "events" not in json.loads(metrics_json.read_text()):
                run("secost_tf.evaluate", f"--run_dir={run_dir}", "--events", *DETECTION)
            found.setdefault(head, []).append(json.loads(metrics_json.read_text()))
    rows = {
        head: {key: [one.get(key, one["events"].get(key)) for one in runs] for key in MEASURES}
        for head, runs in found.items()
    }
    runs = [one for of_head in found.values() for one in of_head]
    rows["random scores"] = {"mAP": [runs[0]["chance"]]}
    rows["all classes always"] = {"mAP": [runs[0]["chance"]]}
    for name, key in (("random scores", "random"), ("all classes always", "all_positive")):
        rows[name] |= {
            measure: [runs[0]["events"]["baselines"][key][measure]] for measure in MEASURES[1:]
        }
    print("| head P | " + " | ".join(MEASURES) + " |\n|" + "---|" * (len(MEASURES) + 1))
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(cell(values[key]) for key in MEASURES) + " |")
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps({"machine": pairs.machine(), "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(pairs.ROOT))
    main()
