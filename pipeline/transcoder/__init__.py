"""From JSON to Protobuf: what came in over HTTP goes once more through the gRPC door, typed.

transcode.py   pure: one batch in, Protobuf events and refusals out
worker.py      the processor: transcode, publish, dead letters
__main__.py    the process
"""
