"""One script per question: each measures, writes raw lines under `results`, and prints one JSON object last."""
