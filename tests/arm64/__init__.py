"""The runtime on emulated ARM64 processors: `make test-arm64`."""
