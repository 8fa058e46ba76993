"""Google Landmarks v2: what is published of it, and how it comes onto a disk."""
