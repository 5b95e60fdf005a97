"""What each stored type and compression costs: bytes against float32 log-mels, and mAP of networks
that are trained.

    python benchmarks/record_size.py --manifest=ESC-10/labels.csv --runs=1:RUN_DIR_1,2:RUN_DIR_2 ...

For each fold and the run that was trained on the others, the fold is converted with every stored
type and the last stage evaluated on it. GZIP changes no value, so its mAP is that of the type.
"""

from __future__ import annotations

import functools
import statistics
import tempfile

import pairs

DTYPES, COMPRESSIONS = ("float32", "float16", "uint8"), ("NONE", "GZIP")


def main() -> None:
    from secost_tf.evaluation.run import evaluate_run
    from tfrecord_tools.conversion.clip import ConvertConfig
    from tfrecord_tools.conversion.convert import convert_dataset
    from tfrecord_tools.conversion.local_runner import convert_shards_locally
    from tfrecord_tools.datasets import manifest

    options = pairs.parser(__doc__)
    options.add_argument("--manifest", required=True)
    options.add_argument("--runs", required=True, help="FOLD:RUN_DIR,FOLD:RUN_DIR,...")
    arguments = options.parse_args()
    runner = functools.partial(convert_shards_locally, clip_timeout_seconds=60.0)
    sizes: dict[tuple[str, str], int] = {}
    figures: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    folds = [text.split(":", 1) for text in arguments.runs.split(",")]
    for fold, run_dir in folds:
        clips, class_map = manifest.read_manifest(
            manifest=arguments.manifest, split="eval", folds=(int(fold),)
        )
        for dtype in DTYPES:
            for compression in COMPRESSIONS:
                with tempfile.TemporaryDirectory() as folder:
                    config = ConvertConfig(
                        "eval", "manifest", feature_dtype=dtype, compression=compression
                    )
                    info = convert_dataset(
                        clips, class_map, config, folder, runner=runner, report=lambda line: None
                    )
                    key = dtype, compression
                    sizes[key] = sizes.get(key, 0) + sum(shard.bytes for shard in info.shards)
                    if compression == "NONE":
                        figures[dtype].append(evaluate_run(run_dir, data_dir=folder)[-1]["mAP"])
                        print(f"fold {fold}, {dtype}: mAP {figures[dtype][-1]:.5f}", flush=True)
    rows = []
    for (dtype, compression), size in sizes.items():
        change = [a - b for a, b in zip(figures[dtype], figures["float32"], strict=True)]
        rows.append(
            {
                "what": f"{dtype} {compression}: bytes / float32; mAP change "
                f"{statistics.mean(change):+.5f} "
                f"(of a fold at most {max(change, key=abs):+.5f})",
                "ratio": size / sizes["float32", "NONE"],
                "bar": "0.50, 0.001" if dtype == "float16" else "",
                "mAP": figures[dtype],
            }
        )
    pairs.show(f"record size and mAP, {len(folds)} folds", rows, arguments.json)


if __name__ == "__main__":
    main()
