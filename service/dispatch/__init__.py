"""Distributes pictures among worker processes: queues, turns of the clients, batches.

It must not know HTTP, nor import what decodes, embeds or searches: that runs in the workers.
"""
