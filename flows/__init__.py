"""When things happen and who must agree: schedules, retries, waiting for readers, approval. How files are made: dvc.yaml."""
