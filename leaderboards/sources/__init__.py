"""Where runs are read from: MLflow stores and folders of records, as one tidy table; and how a record is written."""
