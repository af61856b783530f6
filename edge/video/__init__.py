"""The video frame, and everything that imports GStreamer."""
