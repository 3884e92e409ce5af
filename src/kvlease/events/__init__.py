"""Events: the life of each lease as JSON lines and as spans, and the story of one request told from the lines.

recorder  facts on their way to whoever keeps them, off the engine's threads
settings  where and how much is written     names    what stands for a request and for a lease
schema    one line                          lines    facts as lines
journal   files of lines                    spans    facts as OpenTelemetry spans
reading   lines from files                  finding  the lines about one request
order     clocks of several hosts           story    what they tell
endings   how it ended, and what to do      sentences  what happened, in words
telling   the story as a page
"""
