"""`twostream build --remote`: over ssh."""
