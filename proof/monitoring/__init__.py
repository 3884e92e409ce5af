"""The dashboard and the alerts of `monitoring/`: made, checked, run in a real Prometheus, and drawn.

panels     what a dashboard consists of             rows       kvlease's rows, a question of an operator each
grafana    the rows as Grafana's JSON               rules      the rules of Prometheus, and their manifest
programs   Prometheus and promtool on this machine  server     a Prometheus that runs
client     questions to one                         screen     the dashboard's queries, answered
draw       pictures of the answers                  figures    numbers with their units
play       scenes on real engines, to look at
"""
