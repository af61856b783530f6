"""What a frame is, and the one gate to GStreamer."""
