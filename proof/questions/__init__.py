"""The questions of an operator, asked of real engines in trouble, each with one shell command.

asking     a question, its command, and the answer
scene      the engines, and the situations in which each question comes up
report     the commands with their output, and the table at the end
"""
