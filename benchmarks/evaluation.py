"""Evaluation at AudioSet's size, 20,371 clips x 527 classes: this project's NumPy implementation
against scikit-learn.

    python benchmarks/evaluation.py --peer_python=PEERS/bin/python [--pairs=5]

AP, AUC and d' of every class, and lwlrap. Labels are random, as frequent as AudioSet's; scores are
float32, every tenth class's rounded to two digits, so that many are tied. The script fails where
the two differ by more than 1e-9.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pairs

CLIPS, CLASSES, TOLERANCE = 20_371, 527, 1e-9


def clips() -> tuple[np.ndarray, np.ndarray]:
    """Labels bool [clips, classes], 59 to 6,000 positives a class, and scores that know something
    about them.
    """
    generator = np.random.default_rng(0)
    share = np.maximum(6000 / np.arange(1, CLASSES + 1), 59) / CLIPS
    labels = generator.random((CLIPS, CLASSES)) < share
    logits = generator.standard_normal((CLIPS, CLASSES), np.float32) + 3 * labels - 4
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    scores[:, ::10] = scores[:, ::10].round(2)
    return labels, scores


def our_classes():
    from secost_tf.evaluation import metrics

    labels, scores = clips()
    return lambda: metrics.evaluate_classes(labels, scores)[:3]


def our_lwlrap():
    from secost_tf.evaluation import metrics

    labels, scores = clips()
    return lambda: metrics.lwlrap(labels, scores)


def their_classes():
    from scipy import stats
    from sklearn import metrics

    labels, scores = clips()

    def work():
        precision = metrics.average_precision_score(labels, scores, average=None)
        auc = metrics.roc_auc_score(labels, scores, average=None)
        return precision, auc, np.sqrt(2) * stats.norm.ppf(auc)

    return work


def their_lwlrap():
    from sklearn import metrics

    labels, scores = clips()
    weights = labels.sum(axis=1)
    return lambda: metrics.label_ranking_average_precision_score(
        labels, scores, sample_weight=weights
    )


SIDES = {
    "secost_tf-classes": (our_classes, ("numpy",)),
    "secost_tf-lwlrap": (our_lwlrap, ("numpy",)),
    "scikit-learn-classes": (their_classes, ("numpy", "scipy", "scikit-learn")),
    "scikit-learn-lwlrap": (their_lwlrap, ("numpy", "scipy", "scikit-learn")),
}
ROWS = {"classes": ("AP, AUC and d' of all classes", "10"), "lwlrap": ("lwlrap", "5")}


def answered(prepare: Callable[[], Callable[[], object]], path: Path) -> Callable[[], object]:
    """The work of a side, done once, which is its warm-up, and its figures written down."""
    work = prepare()
    np.save(path, np.array(work()))
    return work


def main() -> None:
    options = pairs.parser(__doc__)
    options.add_argument("--answers", help="folder for the figures of both sides, to compare them")
    options.set_defaults(pairs=5)
    arguments = options.parse_args()
    if arguments.serve:
        prepare, packages = SIDES[arguments.serve]
        path = Path(arguments.answers, f"{arguments.serve}.npy")
        pairs.serve(lambda: answered(prepare, path), packages)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, (what, bar) in ROWS.items():
            pythons = {"secost_tf": sys.executable, "scikit-learn": arguments.peer_python}
            one, other = (
                pairs.Side(__file__, f"{name}-{kind}", python, 1, (f"--answers={folder}",))
                for name, python in pythons.items()
            )
            figures = [np.load(Path(folder, f"{side.name}.npy")) for side in (one, other)]
            difference = float(np.abs(figures[0] - figures[1]).max())
            if not difference <= TOLERANCE:
                raise SystemExit(f"{what}: differ by {difference:.3g}, more than {TOLERANCE:g}")
            rows.append(
                {
                    "what": f"{what}, times as fast as scikit-learn (largest difference "
                    f"{difference:.0e})",
                    "bar": bar,
                    "difference": difference,
                    **pairs.compare(one, other, arguments.pairs, warm_up=0),
                }
            )
            one.close(), other.close()
    pairs.show("evaluation, 20,371 clips x 527 classes", rows, arguments.json)


if __name__ == "__main__":
    main()
