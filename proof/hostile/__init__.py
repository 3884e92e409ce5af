"""Inputs that strangers, clients and routers could send, each kind with the rules that must hold whatever it is.

choices         decisions read from bytes
wire            bytes as messages, cards and replies of a side channel
notifications   NIXL's notifications and addresses
references      JSON as `kv_transfer_params`
neighbourhood   honest engines beside hostile ones, and what must not happen to them
client          clients at an engine of the neighbourhood
peer            engines in the neighbourhood that speak the protocol wrongly
operated, admin an engine with an operator's door, and Schemathesis at it
targets         the functions that are fuzzed, by name
fuzz, fuzz_one  fuzzing that is guided by the code that inputs reach
"""
