"""Tables, figures and the HTML page that show results to people."""

from typing import TYPE_CHECKING

from tfrecord_tools._lazy import lazy_names

if TYPE_CHECKING:
    from secost_tf.reporting.analysis import ANALYSIS, format_analysis, write_analysis
    from secost_tf.reporting.build import REPORT_HTML, write_report
    from secost_tf.reporting.experiments import format_results, write_results
    from secost_tf.reporting.tables import format_events, format_summary
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__)
