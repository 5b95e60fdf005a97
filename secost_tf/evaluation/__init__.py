"""Quality of scores: measures, two stages compared, label errors.

Results are returned; `secost_tf.reporting` writes them.
"""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.evaluation.comparison import Comparison, compare_stages
    from secost_tf.evaluation.event_metrics import MEASURES, EventOptions, load_measures
    from secost_tf.evaluation.experiments import Results, Row, default_command, experiment_results
    from secost_tf.evaluation.intervals import LEVEL, Interval, mean_interval
    from secost_tf.evaluation.metrics import Evaluation, evaluate_scores
    from secost_tf.evaluation.run import evaluate_run, write_per_class
    from secost_tf.evaluation.scoring import Scorer, SplitScorer
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
