"""What a reader of a gallery needs: store, manifest, vectors, catalog, distractors, tombstones.

It knows nothing of how a gallery is built.
"""
