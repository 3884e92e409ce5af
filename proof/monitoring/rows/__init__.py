"""The dashboard's rows: what an operator asks, and the figures that answer it.

glance     all at a glance                    leases      which, for whom, how much memory
trouble    decode engines, and reads          decisions   to stop an engine, the term, and peers
"""

from proof.monitoring.rows.decisions import DRAIN, PEERS, TERM
from proof.monitoring.rows.glance import AT_A_GLANCE
from proof.monitoring.rows.leases import CONSUMERS, LEASES, MEMORY
from proof.monitoring.rows.trouble import DECODERS, READS

ROWS = (AT_A_GLANCE, LEASES, CONSUMERS, MEMORY, DECODERS, READS, DRAIN, TERM, PEERS)
"""All rows, from the top."""
