"""Sending events from Python: `pipeline.sdk.client.Client` for applications, `pipeline.sdk.publisher.Publisher` beneath it."""
