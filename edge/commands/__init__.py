"""The commands of `twostream`: they join the rooms."""
