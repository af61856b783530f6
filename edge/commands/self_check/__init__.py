"""A run believes a device only after it has given the bundle's parity samples.

parity.py   compares a device with what the bundle's maker measured, and times it
child.py    does so with one way of computing after another, in a process that may die
ask.py      starts that process, and another one after its death
choose.py   takes the fastest way that is right
memory.py   what was found out is kept, and believed on the same device alone
"""
