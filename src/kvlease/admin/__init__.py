"""The questions that an operator may ask of an engine, and their answers: the same behind every door.

answers  the bodies of what is answered
"""
