"""Live two-stream action recognition: frames in, labels out. Imports no sibling package."""
