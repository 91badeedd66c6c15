"""Names of the files in the folder of a result."""

from __future__ import annotations

CERTIFICATE = "certificate.json"
REPORT = "certificate.html"
SWEEP = "sweep.json"
SWEEP_REPORT = "sweep.html"
RETRAINING = "retrain.json"
RETRAINING_REPORT = "retrain.html"
#: Files that results are read from.
RESULT_FILES = (CERTIFICATE, SWEEP, RETRAINING)
CHANGE = "change.html"
TRIALS = "trials.parquet"
CERTIFIED = "certified.parquet"
WITNESS = "witness"
#: What a re-training leaves beside its certificates: the network, and what happened in its epochs.
RETRAINED_MODEL = "model.onnx"
TRAINING_LOG = "training.parquet"
#: Folders of the certificates of the network as it came, and as it left.
BEFORE, AFTER = "before", "after"
