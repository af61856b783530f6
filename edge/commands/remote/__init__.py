"""`twostream build --remote`: builds engines on another machine over ssh."""
