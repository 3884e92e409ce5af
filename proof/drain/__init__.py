"""The drain: P is stopped again and again under traffic, as Kubernetes stops a pod, and every answer is checked.

outcome   what came of requests and stops, as plain data      traffic   clients that never pause, and their router
stage     the engines of one connector                        play      the order of the stops
judge     what is promised of a drain                         report    the table, the file, a line for each stop
"""
