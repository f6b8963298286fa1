# Ostler is killed at each step of a move, and goes on where it was; the new instance dies on the way.
auto on
estate providers=there; db offering=postgresql; web needs=db
auto off
ask failover db
resume started
ended fence db cut-off
tick 2s
ended fence db ok
resume started
auto on
tick 1s
status
