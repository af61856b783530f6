"""`twostream doctor`: checks what is installed, with the command that fixes what is missing.

machine.py   collects facts about the machine; the only module that does
elements.py  the GStreamer elements that runs use
check.py     the result of one check
board.py     the board: release, power, memory
python.py    the Python environment and what the CPU device needs
video.py     GStreamer and the board's video hardware
networks.py  what was found out about bundles here
gpu.py       driver, compiler, TensorRT, pycuda, DLA
report.py    runs all checks and prints a line for each

A check is a pure function of the facts, so that those of a real board can be replayed in a test.
"""
