"""Every figure that an engine tells, and what it means. It needs neither an engine nor a client of Prometheus.

catalogue  every metric; of them gauges, counters (of leases), traffic (counters of messages), times (histograms)
metric     the form of a metric's description
histogram  counts in buckets, and what travels of them
observed   the times that are taken from the protocol's facts
scraped    an engine's /metrics page at one moment; only to parse it a client of Prometheus is needed
advice     the term that loses hardly any lease, from its histograms
tails      what a sample says about values that are hardly ever seen
"""
