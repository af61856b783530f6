"""A run believes a device only after it has given the bundle's parity samples.

parity.py    compares a device with what the bundle's maker measured
child.py     does so with one way of computing after another, in a process that may die
trials.py    starts that process, and another one after its death
choice.py    takes the first way that is right
findings.py  what was found out is kept, and believed on the same device alone
"""
