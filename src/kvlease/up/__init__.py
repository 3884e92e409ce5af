"""`kvlease up`: prefill and decode engines and the router on this machine, started by one command and kept running.

The plan is made without any I/O; it is started here, or printed as files for others to start:

wanted       what the command line asks for       machine      what this machine has
engines      settings that all engines share      arguments    vLLM's own arguments, as far as they matter here
plan         the processes, decided               checks       what is refused before anything starts
plain, compose, systemd                           the plan as a script, as a compose file, as units

supervision  which process is started when        schedule     the pauses between two starts
children     the processes                        reaper       ends them when nobody else can
running      all of it together                   drain        asks an engine to grant no more leases
looks        what engines and router say          view         the lines and the table on a terminal

model        tiny models, made here               serve        the program of a CPU engine's process
ports        free ports                           processes    a process group, and what it leaves
last_words   what a log says of an engine's end
"""
