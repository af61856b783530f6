"""`twostream run`."""
