"""`twostream bench`: what each stage of a bundle costs on this machine, and whether it grew.

measure.py    one bundle in one precision, in a process of its own
sensors.py    clocks, temperatures and power meanwhile
compare.py    tables, the line for docs/figures.md, against an earlier measurement
plot.py       the same as pictures
"""
