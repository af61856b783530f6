"""The commands of `twostream`, each built from the other packages of `edge`."""
