"""Prefill and decode engines and the router on this machine, started by one command and kept running.

engines      settings that all engines share      serve        the program of a CPU engine's process
model        tiny models, made here               ports        free ports
processes    a process group, and what it leaves  last_words   what a log says of an engine's end
"""
