"""Spark's Python daemon, with our modules already imported: its workers are forks and start with them.

Without it every worker imports pyarrow, Protobuf and the schema for itself: 2.6 CPU seconds each, a dozen of them. Only imports
and pure tables here: no connection, no thread may be there before a fork.
"""

import sys


def preload(worker_module: str) -> None:
    if worker_module == "pyspark.worker":
        import pandas  # noqa: F401  (Spark's worker imports it for Arrow functions)
        import pyspark.worker  # noqa: F401

        from pipeline.etl import work
        from pipeline.etl.kinesis import client

        work.Place("", "").registry()
        client("us-east-1", {"AWS_ENDPOINT_URL": "http://127.0.0.1"}).close()


if __name__ == "__main__":
    preload(sys.argv[1] if len(sys.argv) > 1 else "pyspark.worker")
    from pyspark import daemon

    daemon.manager()
