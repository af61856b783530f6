"""`twostream doctor`: what this machine has, what it lacks, and the command that mends it.

machine.py   the one place that looks at the machine, and what it found, as data
check.py     the outcome of one check
board.py     which board it is: release, power, memory
python.py    the Python environment and what the CPU device needs
video.py     GStreamer and the board's video hardware
gpu.py       driver, compiler, TensorRT, pycuda, DLA
report.py    all of them, a line each

A check is a pure function of the data: what was seen on a real board can be replayed in a test.
"""
