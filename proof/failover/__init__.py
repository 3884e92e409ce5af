"""The failover: D or P fails in some way under 16 streams, and routers are compared by what their clients get.

outcome   what came of requests and scenes, as plain data      traffic   clients that never pause
arms      the routers and the engines that are compared        unfenced  our router, made to retry on stock engines
stage     the engines of one connector, and what befalls them  play      the order of the scenes
judge     what is promised of our router                       report    the table, the file, a line for each scene
"""
