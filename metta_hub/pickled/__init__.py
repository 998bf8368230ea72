"""Policies that were pickled whole: what their objects say, read from inert records.

Nothing here imports or calls what a pickle names; classes are texts that are compared. `objects` looks at one object,
`values` makes plain Python values, `modules` lists what `Module.state_dict()` would give, `agent` says how Metta's
agents are made, `graph` gives their component graph.
"""
