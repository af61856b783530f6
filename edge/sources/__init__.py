"""Sources of frames: files, cameras, network streams."""
