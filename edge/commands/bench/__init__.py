"""`twostream bench`: measures the time of each stage, and compares it with earlier results.

measure.py    one bundle in one precision, in a separate process
sensors.py    clocks, temperatures and power during the measurement
compare.py    tables, the line for docs/figures.md, comparison with earlier results
plot.py       plots
"""
