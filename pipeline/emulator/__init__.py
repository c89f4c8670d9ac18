"""One small, exact model of Kinesis Data Streams and Firehose, in-process and over HTTP (see README.md)."""
