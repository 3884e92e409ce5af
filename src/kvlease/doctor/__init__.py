"""`kvlease doctor`: finds what is wrong with an installation, a configuration, or engines that run.

findings                         checks, and what they find
machine, machine_checks          what is installed here
setups, reading                  configurations, and how they are read
setup_checks, variable_checks    one configuration: its arguments, and its environment
pair_checks                      several configurations together
running, asking, running_checks  an engine that runs, by its metrics and its health
fleet_checks                     running engines together
hand_off, trial, hand_off_checks a trial request, through a pair of engines or a router
table, examination               all checks, and the whole of an examination
told                             its result as text and as JSON
"""
