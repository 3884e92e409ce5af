"""The cost of being watched: engines with everything on that an operator can switch on, beside the same with nothing.

watchers   who scrapes, polls and collects           measure   pairs of engines that take turns
books      the agents' own books, heard or not       figures   rows, goals, notes
"""
